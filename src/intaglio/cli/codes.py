"""Exit codes besides 0 and those of :mod:`intaglio.errors`."""

FAILED = 2
INTERRUPTED = 130
NOBODY_READS = 141
