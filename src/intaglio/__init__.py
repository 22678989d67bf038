"""Intaglio: engrave a language model into silicon."""

__version__ = "0.1.0"
