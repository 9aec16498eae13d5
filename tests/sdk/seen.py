"""What was seen in clients of others, and twins were wrong of: SQLAlchemy's, elasticsearch's, pymongo's, asyncssh's."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, TypeVar, TypeVarTuple, overload

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Opening(Generic[R]):
    """What is awaited, or entered, as the caller likes."""

    def __init__(self, source: AsyncIterator[R]) -> None:
        self._source = source

    async def _first(self) -> R:
        return await anext(self._source)

    def __await__(self) -> Generator[Any, Any, R]:
        return self._first().__await__()

    async def __aenter__(self) -> R:
        return await self._first()

    async def __aexit__(self, *exc_info: object) -> None:
        async for _ in self._source:
            raise AssertionError


def opening(fn: Callable[..., AsyncIterator[R]]) -> Callable[..., Opening[R]]:
    """What SQLAlchemy decorates `stream` with."""

    @functools.wraps(fn)
    def made(*args: Any, **kwargs: Any) -> Opening[R]:
        return Opening(fn(*args, **kwargs))

    return made


class Indices:
    """A part of a client, which its constructor makes."""

    def __init__(self, client: AsyncSeen) -> None:
        self._client = client

    async def count(self) -> int:
        return len(self._client.log)


class AsyncRows(Generic[*Ts]):
    """An async iterator that gives itself."""

    def __init__(self, *row: *Ts) -> None:
        self._rows = [row]

    def __aiter__(self) -> AsyncRows[*Ts]:
        return self

    async def __anext__(self) -> tuple[*Ts]:
        if not self._rows:
            raise StopAsyncIteration
        return self._rows.pop()


class AsyncSeen:
    def __init__(self, fallback: T | None = None, convert: Callable[[T], str] | None = None) -> None:
        self.log: list[str] = []
        self.fallback = "" if fallback is None or convert is None else convert(fallback)
        self.indices = Indices(self)
        self.either = Opening(self._rows(1)) if convert else None

    async def _rows(self, value: R) -> AsyncIterator[AsyncRows[R]]:
        self.log.append("open")
        yield AsyncRows(value)
        self.log.append("close")

    def acquire(self) -> Opening[AsyncRows[int]]:
        """Seen in pools of connections."""
        return Opening(self._rows(1))

    @classmethod
    def connect(cls, value: R) -> Opening[AsyncRows[R]]:
        """Seen in drivers of databases."""
        return Opening(cls()._rows(value))

    @staticmethod
    def numbers(limit: int | None) -> AsyncIterator[AsyncRows[int]] | None:
        return None if limit is None else AsyncSeen()._rows(limit)

    async def prepared(self) -> Opening[AsyncRows[int]]:
        return Opening(self._rows(2))

    @overload
    def stream(self, what: type[R]) -> Opening[AsyncRows[R]]: ...
    @overload
    def stream(self, what: str) -> Opening[AsyncRows[Any]]: ...
    @opening
    async def stream(self, what: Any) -> AsyncIterator[AsyncRows[Any]]:
        async for rows in self._rows(what() if isinstance(what, type) else what):
            yield rows
