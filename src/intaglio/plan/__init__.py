"""The chip plan: lanes, rows, tiles and exact cycles; no gates, no shapes."""
