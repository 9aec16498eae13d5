r"""Blocking twins of `sdk.seen.AsyncSeen`, `sdk.seen.AsyncRows`, `sdk.seen.Indices`.

This file is written. Change the async classes, and write it again:

    python -m syncline twin \
        --line-length=110 \
        sdk.seen:AsyncSeen \
        sdk.seen:AsyncRows \
        sdk.seen:Indices=BlockingIndices
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, overload

from syncline.twins import Opened, Twin

from sdk.seen import AsyncRows, AsyncSeen, Indices, R, T, Ts


class Seen(Twin[AsyncSeen], of=AsyncSeen):
    def __init__(self, fallback: T | None = None, convert: Callable[[T], str] | None = None) -> None:
        aio: Any = AsyncSeen
        self._make(aio, fallback, convert)

    @property
    def log(self) -> list[str]:
        return self._aio.log

    @log.setter
    def log(self, value: list[str]) -> None:
        self._aio.log = value

    @property
    def fallback(self) -> Any:
        aio: Any = self._aio
        found = aio.fallback
        return self._give(found)

    @fallback.setter
    def fallback(self, value: Any) -> None:
        self._aio.fallback = value

    @property
    def indices(self) -> BlockingIndices:
        found = self._aio.indices
        return BlockingIndices._of(found, self._bridge)

    @indices.setter
    def indices(self, value: BlockingIndices) -> None:
        self._aio.indices = value._aio

    @property
    def either(self) -> Any:
        aio: Any = self._aio
        found = aio.either
        return self._give(found)

    @either.setter
    def either(self, value: Any) -> None:
        self._aio.either = value

    def acquire(self) -> Opened[Rows[int]]:
        """Seen in pools of connections."""
        aio: Any = self._aio
        found: Opened[Rows[int]] = self._give(self._bridge.call(aio.acquire))
        return found

    @classmethod
    def connect(cls, value: R) -> Opened[Rows[R]]:
        """Seen in drivers of databases."""
        aio: Any = AsyncSeen
        found: Opened[Rows[R]] = cls._give_of_class(cls._bridge.call(aio.connect, value))
        return found

    @staticmethod
    def numbers(limit: int | None) -> Iterator[Rows[int]] | None:
        aio: Any = AsyncSeen
        found: Iterator[Rows[int]] | None = Seen._give_of_class(Seen._bridge.call(aio.numbers, limit))
        return found

    def prepared(self) -> Opened[Rows[int]]:
        aio: Any = self._aio
        found: Opened[Rows[int]] = self._give(self._bridge.run_sync(aio.prepared))
        return found

    @overload
    def stream(self, what: type[R]) -> Opened[Rows[R]]: ...
    @overload
    def stream(self, what: str) -> Opened[Rows[Any]]: ...
    def stream(self, what: Any) -> Opened[Rows[Any]]:
        aio: Any = self._aio
        found: Opened[Rows[Any]] = self._give(self._bridge.call(aio.stream, what))
        return found


class Rows(Twin[AsyncRows[*Ts]], Generic[*Ts], of=AsyncRows):
    """An async iterator that gives itself."""

    def __init__(self, *row: *Ts) -> None:
        aio: Any = AsyncRows
        self._make(aio, *row)

    def __iter__(self) -> Self:
        found = self._aio.__aiter__()
        return self._of(found, self._bridge)

    def __next__(self) -> tuple[*Ts]:
        return self._next(self._aio)


class BlockingIndices(Twin[Indices], of=Indices):
    """A part of a client, which its constructor makes."""

    def __init__(self, client: Seen) -> None:
        self._make(Indices, client._aio)

    def count(self) -> int:
        return self._bridge.run_sync(self._aio.count)
