"""Write a report: into a chip package as its last stage, or into a folder."""

import importlib.metadata
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio import __version__
from intaglio.errors import BadInput
from intaglio.flow.choose import PlanOptions
from intaglio.flow.package import LATER, is_package
from intaglio.flow.progress import Progress, silent
from intaglio.flow.stages import put_stage, write_whole
from intaglio.report.facts import Facts, gather
from intaglio.report.metrics import Metric, metrics_of, metrics_values
from intaglio.report.page import page

STAGE = "report"
METRICS, PAGE = LATER[STAGE]
WRITING = "writing the report"
ELSEWHERE = "give a folder with --output"
HEADLINE = (
    "plan__throughput__tokens_per_second_per_user", "plan__design__die__area",
    "plan__design__die__count", "plan__power__total", "plan__energy__token",
    "plan__timing__first_token", "cost__card__cost", "turnaround__next_model__days",
    "verify__equal",
)  # fmt: skip
"""What ``report --json`` prints of the metrics."""


@dataclass(frozen=True)
class Written:
    """A report on disk."""

    facts: Facts
    metrics: dict[str, Metric]
    page: Path
    metrics_file: Path

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``report``."""
        planned = self.facts.planned
        verdict = self.facts.verdict
        return {
            "model": planned.model.title, "target": planned.process.name,
            "package_target": self.facts.own_target, "page": str(self.page),
            "metrics": str(self.metrics_file), "figures": len(self.metrics),
            "verified": verdict["equal"] if verdict else None,
            "headline": {
                key: self.metrics[key].as_dict() for key in HEADLINE if key in self.metrics
            },
        }  # fmt: skip


def write_report(
    name: str,
    *,
    target: str | None = None,
    output: Path | None = None,
    progress: Progress = silent,
) -> Written:
    """The report of a preset, a checkpoint or a chip package.

    ``output``: a folder; without it the report becomes the last stage of the package. The same
    input gives the same bytes. Raises :class:`BadInput` where neither can be written.
    """
    if output is None and not is_package(Path(name)):
        raise BadInput(f"{name}: no chip package to keep the report in", hint=ELSEWHERE)
    check_folder(Path(name) if output is None else output, own=output is None)
    facts = gather(name, PlanOptions(target=target), progress=progress)
    progress(WRITING, 0, "")
    metrics = metrics_of(facts)
    text = json.dumps(metrics_values(facts, metrics), indent=1, allow_nan=False) + "\n"
    files = {METRICS: text.encode(), PAGE: page(facts, metrics).encode()}
    folder = put(facts, files, output)
    progress(WRITING, 1, "")
    return Written(facts, metrics, folder / PAGE, folder / METRICS)


def put(facts: Facts, files: dict[str, bytes], output: Path | None) -> Path:
    """Write the files, and return the folder that has them."""
    package = facts.package
    try:
        if output is None and package is not None:
            put_stage(
                package, STAGE, files, {"target": facts.planned.process.name}, tools(),
                {"metrics": len(metrics_of(facts))},
            )  # fmt: skip
            return package.path
        folder = Path() if output is None else output
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)
        return folder
    except OSError as error:
        raise unwritable(package.path if output is None and package else output, error) from None


def check_folder(output: Path, *, own: bool) -> None:
    """Raise :class:`BadInput` for what no report is written into, before it takes seconds.

    ``own``: it is the package that the report is of.
    """
    if not own and is_package(output):
        raise BadInput(
            f"{output}: is a chip package", hint="leave --output out to report on that chip"
        )
    try:
        whole = output.absolute()
        there = next(path for path in (whole, *whole.parents) if path.exists())
        if not there.is_dir():
            which = "it" if there == whole else str(there)
            raise BadInput(f"{output}: cannot be written: {which} is no folder", hint=ELSEWHERE)
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise unwritable(output, error) from None


def unwritable(place: Path | None, error: OSError) -> BadInput:
    """The error for a place that takes no report."""
    return BadInput(f"{place}: cannot be written: {error.strerror}", hint=ELSEWHERE)


def tools() -> dict[str, str]:
    """The versions of what makes the bytes."""
    return {"intaglio": __version__, "jinja2": importlib.metadata.version("jinja2")}
