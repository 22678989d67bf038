"""From a float checkpoint to an integer model: the one place that knows floats and integers."""

from intaglio.quantize.build import Form, QuantizeOptions, forms_of, quantize
from intaglio.quantize.evaluate import Forward, Score, cut, growth_percent, score
from intaglio.quantize.rotate import rotation

__all__ = [
    "Form", "Forward", "QuantizeOptions", "Score", "cut", "forms_of", "growth_percent",
    "quantize", "rotation", "score",
]  # fmt: skip
