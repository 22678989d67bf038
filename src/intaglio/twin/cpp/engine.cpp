// One engine: compiled once per instruction set, with INTAGLIO_ENGINE its name.
#include "forward.h"

namespace intaglio {

#define INTAGLIO_TEXT_(x) #x
#define INTAGLIO_TEXT(x) INTAGLIO_TEXT_(x)
#define INTAGLIO_JOIN_(a, b) a##b
#define INTAGLIO_JOIN(a, b) INTAGLIO_JOIN_(a, b)

const Engine INTAGLIO_JOIN(INTAGLIO_ENGINE, _engine) = {
    INTAGLIO_TEXT(INTAGLIO_ENGINE),
    forward,
    sample,
    [](const int32_t *x, int64_t n, const Norm &c, int bits, int32_t *y) { norm(x, n, c, bits, y); },
    linear,
    turn,
    rotate,
    attend,
    shrink,
    gate,
};

} // namespace intaglio
