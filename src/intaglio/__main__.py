"""``python -m intaglio``."""

from intaglio.cli import main

main()
