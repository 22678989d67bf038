"""What every body has in common: only known fields, each of its own type."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Only the fields that are named, each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def without_nulls(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """An object without its nulls, which mean as much as nothing."""
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if item is not None or name in keep}


def no_number(name: str) -> Any:
    """Refuse what only Python's JSON knows: NaN and infinities."""
    raise ValueError(f"{name} is not a number of JSON")


def no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Refuses a name that stands twice, one of whose values would be ignored."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!r} stands twice in an object")
        found[name] = value
    return found
