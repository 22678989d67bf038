"""Masks read back and compared, from layout files and a data sheet alone: by geometry."""
