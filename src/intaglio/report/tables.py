"""What a report's bars and tables show."""

from collections.abc import Mapping
from typing import Any

from intaglio.quantity import Quantity, numbers
from intaglio.report.facts import Facts
from intaglio.report.floorplan import GROUPS, group_of
from intaglio.silicon.baselines import Baseline, Rate, machines
from intaglio.silicon.derived import derive
from intaglio.silicon.model import KINDS
from intaglio.silicon.several import CUT_KINDS
from intaglio.silicon.turnaround import TITLES
from intaglio.silicon.words import number, worst_of

SHOWN = ("hc1", "h200")
MODES = (
    ("one_user", "one_user", "One user alone (batch 1)"),
    ("all_users", "batch", "As many users as pay (batch-optimal)"),
)  # fmt: skip
WAYS = {
    "next_model": "A next model, base wafers waiting", "first_chip": "The first chip of its shape",
}  # fmt: skip
HOLDS = {
    "all": "hold over the whole range", "value": "hold, but not over the whole range",
    "low end": "hold at the good end of the range only", "none": "do not hold",
    "unknown": "cannot be judged",
}  # fmt: skip


def share(value: float, whole: float) -> float:
    """Percent, with two digits."""
    return round(100 * value / whole, 2) if whole else 0.0


def hero(facts: Facts) -> list[dict[str, Any]]:
    """tokens/s of one user as bars: this chip, and what was published of HC1 and H200."""
    ours = facts.figures["tokens_per_second_per_user"]
    rows: list[dict[str, Any]] = [{"name": "this chip", "q": ours, "own": True, "times": ""}]
    for row in facts.bill.rows if facts.bill else ():
        baseline = row.baseline
        published = baseline.one_user.published
        if baseline.machine.name in SHOWN and published.known:
            times = f"{number(ours.number / published.number)} ×"
            count = baseline.one_user.chips.number
            name = baseline.machine.title + (f" ×{count:g}" if count > 1 else "")
            rows.append({"name": name, "q": published, "own": False, "times": times})
    rows = [rows[0], *sorted(rows[1:], key=lambda r: -r["q"].number)]
    top = max(row["q"].bounds[1] for row in rows)
    for row in rows:
        low, high = row["q"].bounds
        row |= {"width": share(row["q"].number, top), "low": share(low, top),
                "span": share(high - low, top)}  # fmt: skip
    return rows if len(rows) > 1 else []


def reference(facts: Facts) -> list[tuple[str, Quantity]]:
    """Where nothing is published on this model: what is on Llama 3.1 8B, for orientation."""
    if hero(facts):
        return []
    known = machines()
    return [(known[n].title, known[n].published["llama-3.1-8b"]["one_user"]) for n in SHOWN]


def kinds(facts: Facts) -> list[dict[str, Any]]:
    """Area by kind, the largest first."""
    figures = facts.figures
    whole = figures["area_mm2"].number
    found = [
        {"words": words, "q": figures[f"area_{kind}"],
         "share": share(figures[f"area_{kind}"].number, whole)}
        for kind, words in {**KINDS, **CUT_KINDS}.items() if f"area_{kind}" in figures
    ]  # fmt: skip
    found.sort(key=lambda row: -row["share"])
    top = found[0]["share"]
    return [{**row, "width": share(row["share"], top)} for row in found if row["share"] >= 0.05]


def energies(facts: Facts) -> dict[str, Any]:
    """mJ of a token of one user by group: blocks at work, wires, what flows all the time."""
    physical = facts.planned.physical
    x = numbers(physical.inputs)
    found = dict.fromkeys(GROUPS, 0.0)
    for part in physical.silicon.parts:
        found[group_of(part.name, part.kind)] += physical.silicon.work(part, x).energy * 1e-12
    dynamic = facts.figures["dynamic_millijoule"]
    token = facts.figures["millijoule_per_token"]
    found["wires"] += dynamic.number - sum(found.values())
    links = facts.figures.get("link_w")
    if links:
        rate = facts.figures["tokens_per_second_per_user"].number
        found["links"] = links.number / rate * 1e3
    rows = [{"group": name, "words": GROUPS[name], "value": value} for name, value in found.items()]
    idle = token.number - sum(found.values())
    rows.append({"group": "idle", "words": "leakage, idle clock", "value": idle})
    shown: list[dict[str, Any]] = [
        {**row, "share": share(float(row["value"]), token.number),
         "q": Quantity(float(row["value"]), token.unit, token.grade, "silicon.physical, nominal")}
        for row in rows if float(row["value"]) > 1e-4 * token.number
    ]  # fmt: skip
    return {"rows": shown, "token": token, "full": facts.figures["millijoule_per_token_full"]}


def size_rows(facts: Facts) -> list[dict[str, Any]]:
    """Every preset, and how large its active part is."""
    return [
        {"size": size, "parameters": number(size.parameters),
         "active": number(size.active) if size.active < 0.9 * size.parameters else ""}
        for size in facts.sizes
    ]  # fmt: skip


def machine_rows(facts: Facts) -> list[dict[str, Any]]:
    """One user, then batch-optimal: the chip and every machine; never one beside the other."""
    bill = facts.bill
    if bill is None:
        return []
    made = []
    for ours, theirs, title in MODES:
        rate, watts = getattr(bill.subject.chip, ours)
        joule = per_joule(rate, watts)
        users = bill.subject.users if ours == "all_users" else 1
        name = "this chip" if users == 1 else f"this chip, {users} users"
        rows = [{"name": name, "own": True, "rate": rate, "ceiling": None, "joule": joule,
                 "usd": bill.cost[f"{ours}_usd_per_mtoken"], "shown": True}]  # fmt: skip
        rows += [machine_row(row.baseline, theirs) for row in bill.rows]
        made.append({"title": title, "rows": rows})
    return made


def per_joule(rate: Quantity, watts: Quantity) -> Quantity:
    """Tokens per joule."""
    inputs = {"rate": rate, "watts": watts}
    model = lambda v: {"joule": v["rate"] / v["watts"]}  # noqa: E731
    return derive(model, inputs, {"joule": "token/J"}, "tokens/s over watts")["joule"].quantity


def machine_row(baseline: Baseline, mode: str) -> dict[str, Any]:
    """One machine, one user or batch-optimal."""
    rate: Rate = getattr(baseline, mode)
    count = rate.chips.number
    name = baseline.machine.title + (f" ×{count:g}" if count > 1 else "")
    return {
        "name": name, "own": False, "rate": rate.published, "ceiling": rate.ceiling.quantity,
        "joule": rate.tokens_per_joule.quantity, "usd": rate.usd_per_mtoken.quantity,
        "shown": baseline.machine.name in SHOWN,
    }  # fmt: skip


def steps_of(v: Mapping[str, float], volume: float) -> dict[str, float]:
    """USD of a card step by step, from the figures and inputs of its cost."""
    parts = {
        "good silicon": v["good_die_usd"], "package": v["package_price"], "test": v["test_price"],
    }  # fmt: skip
    dies = v["dies"]
    lost = v["cost_per_die_usd"] - sum(parts.values())
    made = {name: dies * value for name, value in parts.items()}
    made |= {
        "lost in packaging": dies * lost, "board": dies * v["board_price"],
        "share of a server": dies * v["host_price"],
        "spent once, its share": v["first_chip_usd"] / volume,
    }  # fmt: skip
    return {**made, "margin": v["card_price_usd"] - sum(made.values())}


FROM = {
    "good silicon": "good_die_usd", "package": "package_price", "test": "test_price",
    "lost in packaging": "package_yield", "board": "board_price",
    "share of a server": "host_price", "spent once, its share": "first_chip_usd",
    "margin": "margin",
}  # fmt: skip


def cost_steps(facts: Facts) -> list[dict[str, Any]]:
    """From silicon to the price of a card of the first chip, as a waterfall."""
    bill = facts.bill
    if bill is None or not bill.cost["card_price_usd"].known:
        return []
    every = {**bill.cost.inputs, **{n: f.quantity for n, f in bill.cost.figures.items()}}
    numbers = {name: q.value for name, q in every.items() if q.value is not None}
    price, at, rows = numbers["card_price_usd"], 0.0, []
    for name, value in steps_of(numbers, bill.cost.terms.volume).items():
        grade = worst_of(every[FROM[name]].grade, bill.cost["dies"].grade)
        rows.append({
            "name": name, "start": share(at, price), "width": share(value, price),
            "q": Quantity(value, "USD", grade, every[FROM[name]].source),
        })  # fmt: skip
        at += value
    return rows


def ways_of(facts: Facts) -> list[dict[str, Any]]:
    """Both ways to a card as Gantt charts."""
    made = []
    for name, way in facts.ways.items():
        total = way.total.quantity
        whole = total.bounds[1] if total.known else 1.0
        steps = [
            {"name": TITLES[step.name], "q": step.days, "start": share(step.start.number, whole),
             "width": max(share(step.days.number, whole), 0.3)}
            for step in way.steps if step.days.known and step.start.known
        ]  # fmt: skip
        needed = [
            f"{c.input.replace('_', ' ').replace('layers above', 'mask layers above the base')} at "
            f"most {c.needed:.3g} (here {c.value:.3g})" for c in way.needed
        ]  # fmt: skip
        made.append({
            "title": WAYS.get(name, name), "total": total, "steps": steps, "needed": needed,
            "promise": way.promise, "promise_at": share(way.promise, whole),
            "holds": HOLDS[way.holds], "kept": way.holds in ("all", "value"),
        })  # fmt: skip
    return made


def inputs_of(facts: Facts) -> list[tuple[str, list[tuple[str, Quantity]]]]:
    """Everything that the figures were computed from."""
    physical, process = facts.planned.physical, facts.planned.process
    own = dict(process.figures)
    circuits = {name: q for name, q in physical.inputs.items() if name not in own}
    made = [(f"Process: {process.title}", own), ("Circuits", circuits)]
    if facts.bill:
        cost = {name: q for name, q in facts.bill.cost.inputs.items() if name not in own}
        made.append(("Cost", cost))
    return [(title, sorted(figures.items())) for title, figures in made]
