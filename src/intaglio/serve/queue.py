"""Whose turn it is: sequences of many clients that wait for a place."""

from collections import Counter

from intaglio.serve.batch import Work


class Queue:
    """Sequences that wait, by client. A client's own come in turn.

    The next place goes to the client of whom fewest run, the one that was served longest ago
    first: who sends a thousand requests at once does not keep another's single one waiting.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[int, Work]] = {}
        self._client: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._client)

    def push(self, client: str, key: int, work: Work) -> None:
        """Let a sequence wait."""
        self._waiting.setdefault(client, {})[key] = work
        self._client[key] = client

    def drop(self, key: int) -> bool:
        """Forget a sequence; whether it waited."""
        client = self._client.pop(key, None)
        if client is None:
            return False
        self._take(client, key)
        return True

    def pop(self, running: Counter[str]) -> tuple[str, int, Work]:
        """The sequence whose turn it is. ``running``: how many run, by client."""
        client = min(self._waiting, key=running.__getitem__)
        key = next(iter(self._waiting[client]))
        del self._client[key]
        work = self._take(client, key)
        if client in self._waiting:  # to the end of the line
            self._waiting[client] = self._waiting.pop(client)
        return client, key, work

    def _take(self, client: str, key: int) -> Work:
        own = self._waiting[client]
        work = own.pop(key)
        if not own:
            del self._waiting[client]
        return work
