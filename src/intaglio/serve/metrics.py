"""What the server counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120,
)  # fmt: skip


class Metrics:
    """Counters of one server; all times are this machine's, none the chip's."""

    def __init__(self, running: Callable[[], float], waiting: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "intaglio_requests", "Requests by route and status.", ("route", "status"),
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("intaglio_tokens", "Tokens, of prompts and said.", ("kind",),
                               registry=registry)  # fmt: skip
        for kind in ("prompt", "generated"):
            self._tokens.labels(kind)
        self._first = self._histogram("first_token", "Request to its first text.")
        self._next = self._histogram("next_token", "A piece of text to the next, of a request.")
        self._whole = self._histogram("generation", "A whole request with tokens.")
        for name, what, of in (("running", "run", running), ("waiting", "wait", waiting)):
            gauge = Gauge(f"intaglio_sequences_{name}", f"Sequences that {what}.",
                          registry=registry)  # fmt: skip
            gauge.set_function(of)

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()

    def piece(self, seconds: float, *, first: bool) -> None:
        """Count a piece of text, so long after the one before or the request."""
        (self._first if first else self._next).observe(seconds)

    def ended(self, prompt: int, said: int, seconds: float) -> None:
        """Count what a request took."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("generated").inc(said)
        self._whole.observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(f"intaglio_{name}_seconds", what, buckets=SECONDS, registry=self.registry)
