"""The page at ``/``, and what it shows beside the API."""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from intaglio import __version__
from intaglio.flow.talk import modelled, modelled_clock
from intaglio.golden.sample import Sampling
from intaglio.plan.target import read_target, target_path
from intaglio.quantity import quantity
from intaglio.serve.assets import asset, page_files
from intaglio.serve.beside import beside
from intaglio.serve.guard import encoded
from intaglio.serve.served import Served


def add_page(app: FastAPI, served: Served) -> None:
    """Add the page, its files and ``/page.json`` to an application."""
    for path in page_files():
        app.add_api_route(path, asset, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/page.json", Page(served).facts, response_model=None)


class Page:
    """What ``/page.json`` answers."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._making: asyncio.Future[dict[str, Any]] | None = None

    async def facts(self) -> Response:
        """What the page shows beside the API: this chip's pace, and other machines'."""
        if self._making is None or (self._making.done() and self._making.exception()):
            self._making = asyncio.ensure_future(asyncio.to_thread(page_facts, self.served))
        made = await asyncio.shield(self._making)  # whoever goes away, it is made once
        return Response(encoded(made), media_type="application/json")


def page_facts(served: Served) -> dict[str, Any]:
    """The object of ``/page.json``; ``docs/serve.md`` says what its keys mean."""
    plan = served.package.plan
    ranks = {served.name: 0, **{name: each.rank for name, each in served.adapters.items()}}
    place = target_path(plan.target)
    clock = quantity(read_target(place)["figures"]["clock"], f"{place.name}: clock")
    if (slower := modelled_clock(plan) / clock.number) < 1:  # its tiles' reads do not hold it
        low, high = (slower * end for end in clock.bounds)
        clock = replace(clock, value=slower * clock.number, low=low, high=high)
    return {
        "version": __version__,
        "model": {
            "name": served.name, "adapters": list(served.adapters), "hash": served.hash,
            "parameters": served.package.parameters, "context": served.context,
            "chat": served.tokenizer.chat_template is not None, "engine": served.twin.engine,
        },
        "chip": {
            "target": plan.target, "clock": clock.as_dict(),
            "pace": {name: pace(served, rank) for name, rank in ranks.items()},
        },
        **beside(),
    }  # fmt: skip


def pace(served: Served, rank: int) -> list[dict[str, float]]:
    """How long the chip takes for a prompt of so many tokens, and for a token that follows it.

    Modelled, greedy, alone on the chip; at powers of two and at the context's end. Between them
    both are nearly straight lines.
    """
    last = max(served.context - 1, 1)
    places = sorted({min(1 << power, last) for power in range(last.bit_length() + 1)})
    made = []
    for place in places:
        found = modelled(served.package.plan, place, 2, Sampling(), rank)
        made.append({
            "prompt_tokens": place, "prompt_seconds": found["prefill_seconds"],
            "token_seconds": found["decode_seconds"],
        })  # fmt: skip
    return made
