"""A bit-exact software twin of the chip, fast enough to work with."""

from intaglio.twin.engine import NO_NATIVE, Twin, processors
from intaglio.twin.rows import Sequence

__all__ = ["NO_NATIVE", "Sequence", "Twin", "processors"]
