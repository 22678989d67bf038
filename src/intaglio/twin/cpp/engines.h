// Which engines this processor can run.
#pragma once
#include <vector>

#include "model.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace intaglio {

// Best first; the portable one is always there.
inline std::vector<const Engine *> engines() {
  std::vector<const Engine *> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (avx512 && __builtin_cpu_supports("avx512vbmi")) found.push_back(&avx512vbmi_engine);
  if (avx512) found.push_back(&avx512_engine);
  if (avx2) found.push_back(&avx2_engine);
#elif defined(__aarch64__) && defined(__linux__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found.push_back(&neon_engine);
#elif defined(__aarch64__) // Apple's have the dot products since the first M
  found.push_back(&neon_engine);
#endif
  found.push_back(&portable_engine);
  return found;
}

} // namespace intaglio
