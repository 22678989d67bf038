"""The chip in Amaranth: one component per operation of the integer arithmetic."""
