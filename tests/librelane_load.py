"""``python tests/librelane_load.py CONFIG PDK_ROOT``, by a Python that has LibreLane.

Loads a configuration with LibreLane's own loader and the variables of its flow ``Classic``, and
prints as JSON what it understood. Variables that the PDK sets are left out: no package carries its
files. Unknown keys, wrong types and files that are not there end it with an error.
"""

import json
import sys

from librelane.config import Config  # pyright: ignore[reportMissingImports]
from librelane.flows import Flow  # pyright: ignore[reportMissingImports]


def main(config: str, pdk_root: str) -> None:
    """Load and print."""
    classic = Flow.factory.get("Classic")
    assert classic is not None
    flow = classic.__new__(classic)  # its variables, without a run
    variables = [
        each for each in flow.get_all_config_variables()
        if not each.pdk or each.name == "STD_CELL_LIBRARY"
    ]  # fmt: skip
    loaded, _ = Config.load(config, variables, pdk_root=pdk_root)
    macros = loaded["MACROS"]
    values = {
        "design": loaded["DESIGN_NAME"],
        "period": float(loaded["CLOCK_PERIOD"]),
        "die": [float(each) for each in loaded["DIE_AREA"]],
        "sources": len(loaded["VERILOG_FILES"]),
        "macros": len(macros),
        "libraries": sum(len(files) for each in macros.values() for files in each.lib.values()),
        "instances": sum(len(each.instances) for each in macros.values()),
        "connections": loaded["PDN_MACRO_CONNECTIONS"],
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
