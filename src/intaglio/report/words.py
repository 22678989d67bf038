"""Figures as people read them: numbers, units, ranges, and how far each can be trusted."""

from intaglio.quantity import Quantity

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


def unit_of(q: Quantity) -> str:
    """Its unit as it is printed behind a number."""
    return UNITS.get(q.unit, q.unit)


def scale_of(q: Quantity) -> tuple[float, str]:
    """The factor and unit in which a figure reads well."""
    if q.value is not None and q.unit == "s" and 0 < abs(q.value) < 0.1:
        return (1e3, "ms") if abs(q.value) >= 1e-4 else (1e6, "µs")
    if q.value is not None and q.unit == "mJ" and 0 < abs(q.value) < 0.01:
        return (1e3, "µJ") if abs(q.value) >= 1e-5 else (1e6, "nJ")
    if q.value is not None and q.unit == "day" and 0 < abs(q.value) < 1:
        return (24, "h") if abs(q.value) >= 1 / 24 else (1440, "min")
    if q.value is not None and q.unit == "Hz":
        return (1e-9, "GHz") if abs(q.value) >= 1e9 else (1e-6, "MHz")
    return 1.0, unit_of(q)


def valued(q: Quantity) -> str:
    """A value with its unit, or a dash."""
    if q.value is None:
        return "–"
    factor, unit = scale_of(q)
    return with_unit(number(q.value * factor), unit, q.unit)


def with_unit(text: str, unit: str, of: str) -> str:
    """A number and its unit, dollars in front."""
    if of in PREFIXED:
        return f"${text}{unit.removeprefix('$')}"
    return f"{text} {unit}".rstrip()


def ranged(q: Quantity) -> str:
    """Low to high in the same unit; empty where they are one or unknown."""
    if q.value is None:
        return ""
    factor, _ = scale_of(q)
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
    from intaglio.quantity import GRADES

    return max(grades, key=GRADES.index)


def words(name: str) -> str:
    """A figure's name as words."""
    return name.replace("__", " · ").replace("_", " ")
