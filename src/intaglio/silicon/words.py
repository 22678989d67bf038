"""Figures as people read them: numbers, units, ranges, and how far each can be trusted.

One rule of digits, for the terminal and for the report: three that count, whole numbers from a
hundred on, letters from a million on, powers of ten below a thousandth.
"""

from intaglio.quantity import GRADES, Quantity

BADGES = {
    "exact": "exact", "silicon": "measured", "measured": "measured", "post-layout": "derived",
    "drawn": "derived", "simulated": "derived", "synthesis": "derived", "inferred": "derived",
    "published claim": "published", "assumed": "assumed",
}  # fmt: skip
"""The word that a grade gets beside a number."""
BADGE_MEANS = {
    "exact": "counted from the plan or the model, cycle by cycle: no uncertainty",
    "measured": "measured on silicon, or on a machine that ran it",
    "derived": "computed from measured or published figures: synthesis, layout, scaling",
    "published": "somebody else's published figure",
    "assumed": "at least one input that moves it is nobody's published figure: read the range",
}
UNITS = {
    "mm2": "mm²", "W/mm2": "W/mm²", "1/s": "", "token/s": "tok/s", "token/J": "tok/J", "1": "",
    "die": "", "machine": "", "USD": "$", "USD/Mtoken": "$", "um2": "µm²", "um": "µm",
    "1/cm2": "/cm²", "MTr/mm2": "MTr/mm²", "USD/h": "$/h", "s": "s", "day": "days",
}  # fmt: skip
PREFIXED = ("USD", "USD/Mtoken", "USD/h")
LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def number(value: float) -> str:
    """A number with as many digits as say something: 21,357; 1.44; 80.1 G; 0.0113."""
    size = abs(value)
    for limit, letter in LARGE:
        if size >= limit * 0.9995:
            return f"{value / limit:,.3g} {letter}"
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.001 or not value:
        return plain(f"{value:.3g}")
    return scientific(value)


def plain(text: str) -> str:
    """A number without an exponent."""
    return f"{float(text):g}"


def scientific(value: float) -> str:
    """A small number as a power of ten."""
    digits, exponent = f"{value:.1e}".split("e")
    superscript = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}·10{superscript}"


def scale_of(value: float, unit: str) -> tuple[float, str]:
    """The factor and the unit in which a value reads well."""
    size = abs(value)
    if unit == "s" and 0 < size < 0.1:
        return (1e3, "ms") if size >= 1e-4 else (1e6, "µs")
    if unit == "mJ" and 0 < size < 0.01:
        return (1e3, "µJ") if size >= 1e-5 else (1e6, "nJ")
    if unit == "day" and 0 < size < 1:
        return (24, "h") if size >= 1 / 24 else (1440, "min")
    if unit == "Hz":
        return (1e-9, "GHz") if size >= 1e9 else (1e-6, "MHz")
    return 1.0, UNITS.get(unit, unit)


def measure(value: float, unit: str) -> str:
    """A value with its unit, dollars in front."""
    factor, shown = scale_of(value, unit)
    text = number(value * factor)
    if unit in PREFIXED:
        return f"${text}{shown.removeprefix('$')}"
    return f"{text} {shown}".rstrip()


def valued(q: Quantity) -> str:
    """A value with its unit, or a dash."""
    return "–" if q.value is None else measure(q.value, q.unit)


def ranged(q: Quantity) -> str:
    """Low to high in the same unit; empty where they are one or unknown."""
    if q.value is None:
        return ""
    factor, _ = scale_of(q.value, q.unit)
    low, high = (number(end * factor) for end in q.bounds)
    return "" if low == high else f"{low} – {high}"


def percent(q: Quantity) -> Quantity:
    """A share as a percentage."""
    low, high = q.bounds
    return Quantity(100 * q.number, "%", q.grade, q.source, 100 * low, 100 * high)


def badge(grade: str) -> str:
    """The word for a grade."""
    return BADGES[grade]


def worst_of(*grades: str) -> str:
    """The least trusted of several grades."""
    return max(grades, key=GRADES.index)


def words(name: str) -> str:
    """A figure's name as words."""
    return name.replace("__", " · ").replace("_", " ")
