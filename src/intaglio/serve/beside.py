"""What the page sets beside the chip: machines at their published pace, and that model in silicon.

Figures of other machines are of one model, ``REFERENCE``, which nearly all of them were published
for; so its own chip is there too, for a comparison of the same model on both sides.
"""

from functools import cache
from typing import Any

from intaglio.flow.agents import AgentOptions, gpu_runner
from intaglio.flow.choose import PlanOptions, open_model, target_of
from intaglio.flow.cost import work_of
from intaglio.flow.plan import plan_outline
from intaglio.silicon.baselines import Machine, Work, baseline, machines
from intaglio.silicon.derived import derive

REFERENCE = "llama-3.1-8b"
USUAL = "h200"
FIGURES = {
    "tokens_per_second": "tokens_per_second_per_user",
    "prompt_tokens_per_second": "prompt_tokens_per_second",
    "millijoule_per_token": "millijoule_per_token",
}


@cache
def beside() -> dict[str, Any]:
    """The reference model, its chip and the machines. The first call plans a chip: seconds."""
    opened, options = open_model(REFERENCE), PlanOptions()
    process = target_of(opened, options)
    planned = plan_outline(REFERENCE, opened, process, options)
    position = round(planned.physical.cycles.position)
    work = work_of(REFERENCE, opened, planned.outline, position)
    figures = planned.figures
    return {
        "reference": {
            "name": REFERENCE, "title": opened.title, "parameters": opened.parameters,
            "target": process.name, "process": process.title, "bits_per_weight": work.bits,
            "clock": process["clock"].as_dict(),
            **{key: figures[name].as_dict() for key, name in FIGURES.items()},
        },
        "machines": [each for one in machines().values() if (each := facing(one, work))],
        "machine": USUAL,
    }  # fmt: skip


def facing(other: Machine, work: Work) -> dict[str, Any] | None:
    """A machine with one user of the reference model; None where its pace is not known."""
    alone = baseline(other, work).one_user
    if not alone.rate.known:
        return None
    runner = gpu_runner(other, work, AgentOptions())
    watts = derive(
        lambda v: {"watts": v["power"] * v["chips"]},
        {"power": other.figures["power"], "chips": alone.chips}, {"watts": "W"},
        f"largest power of {alone.chips.number:g} x {other.title}, at any load",
    )["watts"].quantity  # fmt: skip
    return {
        "name": other.name, "title": other.title, "counted": alone.counted,
        "machines": alone.chips.as_dict(), "watts": watts.as_dict(),
        "tokens_per_second": runner.rate.as_dict(),
        "prompt_tokens_per_second": runner.prompt_rate.as_dict(),
    }  # fmt: skip
