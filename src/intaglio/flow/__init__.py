"""The steps in order, the chip package on disk, the cache."""
