"""A plugin of pytest (``-p sanitized_native``): the native module of $INTAGLIO_NATIVE, a file.

Loaded before anything imports the installed one.
"""

import importlib.util
import os
import sys

NAME = "intaglio.twin._native"

_spec = importlib.util.spec_from_file_location(NAME, os.environ["INTAGLIO_NATIVE"])
assert _spec is not None
assert _spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[NAME])
