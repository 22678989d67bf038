"""Layout: the mask shapes of a chip, drawn by code from the published rules of a process."""
