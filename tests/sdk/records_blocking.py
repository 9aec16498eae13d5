r"""Blocking twins, written by syncline.

This file is written. Change the async classes, and write it again:

    python -m syncline twin \
        --line-length=110 \
        sdk.records:AsyncRecord \
        sdk.records:AsyncFeed \
        sdk.records:AsyncJob \
        sdk.records:AsyncDefined \
        sdk.records:AsyncFrozen \
        sdk.records:AsyncReader \
        sdk.records:AsyncBase \
        sdk.records:AsyncChanging \
        sdk.records:AsyncChanging.AsyncPart \
        sdk.records:AsyncPath
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self

from syncline.twins import OMITTED, Twin, generated, given, inside

from sdk.records import (
    NOTHING,
    AsyncBase,
    AsyncChanging,
    AsyncDefined,
    AsyncFeed,
    AsyncFrozen,
    AsyncJob,
    AsyncPath,
    AsyncReader,
    AsyncRecord,
    Level,
    P,
    R,
    Single,
)


class Record(Twin[AsyncRecord], of=AsyncRecord):
    """Has what only its constructor takes, and what only that makes."""

    kind = AsyncRecord.kind

    def __init__(self, url: str, secret: str, cache: dict[str, int] = OMITTED, *, retries: int = 3) -> None:
        self._make(AsyncRecord, url=url, secret=secret, cache=cache, retries=retries)

    @property
    def url(self) -> str:
        return self._aio.url

    @url.setter
    def url(self, value: str) -> None:
        self._aio.url = value

    @property
    def retries(self) -> int:
        return self._aio.retries

    @retries.setter
    def retries(self, value: int) -> None:
        self._aio.retries = value

    @property
    def cache(self) -> dict[str, int]:
        return self._aio.cache

    @cache.setter
    def cache(self, value: dict[str, int]) -> None:
        self._aio.cache = value

    @property
    def hidden(self) -> str:
        return self._aio.hidden

    @hidden.setter
    def hidden(self, value: str) -> None:
        self._aio.hidden = value

    @property
    def token(self) -> Any:
        aio: Any = self._aio
        found = aio.token
        return self._give(found)

    @token.setter
    def token(self, value: Any) -> None:
        self._aio.token = value

    @property
    def last(self) -> str:
        return self._aio.last

    @last.setter
    def last(self, value: str) -> None:
        self._aio.last = value

    def get(self, key: str) -> int:
        return self._bridge.run_sync(self._aio.get, key)


class Feed(Twin[AsyncFeed[R]], Generic[R], of=AsyncFeed):
    """Has something to iterate over, perhaps."""

    def __init__(
        self, items: list[R] = OMITTED, source: AsyncIterator[R] | None = None, parent: Feed[R] | None = None
    ) -> None:
        self._make(AsyncFeed, items=items, source=source, parent=None if parent is None else parent._aio)

    @property
    def items(self) -> list[R]:
        return self._aio.items

    @items.setter
    def items(self, value: list[R]) -> None:
        self._aio.items = value

    @property
    def source(self) -> Iterator[R] | None:
        aio: Any = self._aio
        found: Iterator[R] | None = self._give(aio.source)
        return found

    @source.setter
    def source(self, value: AsyncIterator[R] | None) -> None:
        self._aio.source = value

    @property
    def parent(self) -> Feed[R] | None:
        found = self._aio.parent
        return None if found is None else Feed[Any]._of(found, self._bridge)

    @parent.setter
    def parent(self, value: Feed[R] | None) -> None:
        self._aio.parent = None if value is None else value._aio

    def __iter__(self) -> Self:
        found = self._aio.__aiter__()
        return self._of(found, self._bridge)

    def __next__(self) -> R:
        return self._next(self._aio)

    def each(self) -> Generator[R, None, None]:
        return generated(self._bridge, self._aio.each())

    def rest(self, *, wanted: bool = True) -> Iterator[R] | list[R] | None:
        aio: Any = self._aio
        found: Iterator[R] | list[R] | None = self._give(self._bridge.run_sync(aio.rest, wanted=wanted))
        return found


class Job(Twin[AsyncJob[P, R]], Generic[P, R], of=AsyncJob):
    """Is generic in the parameters of a function."""

    def __init__(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> None:
        aio: Any = AsyncJob
        self._make(aio, fn, *args, **kwargs)

    def result(self) -> R:
        return self._bridge.run_sync(self._aio.result)


class Defined(Twin[AsyncDefined], of=AsyncDefined):
    """Has attributes of attrs's, with a validator, and one with another name for its constructor."""

    def __init__(self, url: str, retries: int = 3, token: str = "token", names: list[str] = OMITTED) -> None:
        self._make(AsyncDefined, url=url, retries=retries, token=token, names=names)

    @property
    def url(self) -> str:
        return self._aio.url

    @url.setter
    def url(self, value: str) -> None:
        self._aio.url = value

    @property
    def retries(self) -> int:
        return self._aio.retries

    @retries.setter
    def retries(self, value: int) -> None:
        self._aio.retries = value

    @property
    def names(self) -> list[str]:
        return self._aio.names

    @names.setter
    def names(self, value: list[str]) -> None:
        self._aio.names = value

    @property
    def size(self) -> int:
        return self._aio.size

    @size.setter
    def size(self, value: int) -> None:
        self._aio.size = value

    def get(self) -> str:
        return self._bridge.run_sync(self._aio.get)

    def __ne__(self, other: object) -> Any:
        """
        Check equality and either forward a NotImplemented or
        return the result negated.
        """
        aio: Any = self._aio
        found = aio.__ne__(inside(other))
        return self._give(found)


class Frozen(Twin[AsyncFrozen], of=AsyncFrozen):
    """Nothing of it can be set."""

    def __init__(self, *, number: int, level: Level = Level.LOW) -> None:
        self._make(AsyncFrozen, number=number, level=level)

    @property
    def number(self) -> int:
        return self._aio.number

    @property
    def level(self) -> Level:
        return self._aio.level

    def next(self) -> Frozen:
        found = self._bridge.run_sync(self._aio.next)
        return Frozen._of(found, self._bridge)

    def __ne__(self, other: object) -> Any:
        """
        Check equality and either forward a NotImplemented or
        return the result negated.
        """
        aio: Any = self._aio
        found = aio.__ne__(inside(other))
        return self._give(found)


class Reader(Twin[AsyncReader], of=AsyncReader):
    """What reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._make(
            AsyncReader,
            *[inside(item) for item in args],
            **{key: inside(item) for key, item in kwargs.items()},
        )

    @property
    def name(self) -> str:
        return self._aio.name

    @name.setter
    def name(self, value: str) -> None:
        self._aio.name = value

    def read(self, count: int = -1, /) -> bytes:
        return self._bridge.run_sync(self._aio.read, count)


class Base(Twin[AsyncBase], of=AsyncBase):
    """What all have."""

    def __init__(self, name: str) -> None:
        self._make(AsyncBase, name)

    @property
    def name(self) -> str:
        return self._aio.name

    @name.setter
    def name(self, value: str) -> None:
        self._aio.name = value

    def read(self, count: int = -1, /) -> bytes:
        return self._bridge.run_sync(self._aio.read, count)

    def another(self) -> Base:
        found = self._bridge.run_sync(self._aio.another)
        return Base._of(found, self._bridge)

    def another_reader(self) -> Reader:
        found = self._bridge.run_sync(self._aio.another_reader)
        return Reader._of(found, self._bridge)

    def __lt__(self, other: object) -> bool:
        return self._aio.__lt__(inside(other))


class Part(Twin[AsyncChanging.AsyncPart], of=AsyncChanging.AsyncPart):
    """A part of it."""

    def __init__(self, of: Changing) -> None:
        self._make(AsyncChanging.AsyncPart, inside(of))

    @property
    def of(self) -> Changing:
        found = self._aio.of
        return Changing._of(found, self._bridge)

    @of.setter
    def of(self, value: Changing) -> None:
        self._aio.of = inside(value)

    def whole(self) -> Changing:
        found = self._bridge.run_sync(self._aio.whole)
        return Changing._of(found, self._bridge)


class Path(Twin[AsyncPath], of=AsyncPath):
    """Finds what it is asked for."""

    def __init__(self, path: str = "") -> None:
        self._make(AsyncPath, path)

    def get(self) -> str:
        return self._bridge.run_sync(self._aio.get)

    def __call__(self, **query: str) -> str:
        return self._bridge.run_sync(self._aio.__call__, **query)

    def __getattr__(self, name: str) -> Path:
        found: Path = self._find(name)
        return found


class Changing(Base, of=AsyncChanging):
    """Decorated, with classes in it, and a default that is one single object."""

    AsyncPart = AsyncChanging.AsyncPart

    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncChanging: ...

        @property
        def _aio(self) -> AsyncChanging: ...

    def __init__(self, name: str) -> None:
        self._make(AsyncChanging, name)

    def read(self, count: int = -1, /) -> bytes:
        return self._bridge.run_sync(self._aio.read, count)

    @property
    def rate(self) -> float:
        """What it costs."""
        return self._aio.rate

    @rate.setter
    def rate(self, value: float | str) -> None:
        self._aio.rate = value

    @rate.deleter
    def rate(self) -> None:
        del self._aio.rate

    def slow(self) -> list[Base]:
        found = self._bridge.run_sync(self._aio.slow)
        return [Base._of(item, self._bridge) for item in found]

    def parts(self, count: int = 2) -> list[Part]:
        found = self._bridge.run_sync(self._aio.parts, count)
        return [Part._of(item, self._bridge) for item in found]

    def pages(self) -> Generator[Base, None, None]:
        return generated(self._bridge, self._aio.pages(), lambda found: Base._of(found, self._bridge))

    def anything(self, key: str = "key") -> str:
        aio: Any = self._aio
        found: str = self._bridge.run_sync(aio.anything, key)
        return found

    def default(self, *, key: object = NOTHING, made: Single = OMITTED) -> bool:
        aio: Any = self._aio
        found: bool = self._bridge.run_sync(aio.default, **given(key=key, made=made))
        return found

    def first(self, reader: Reader | Base) -> bytes:
        return self._bridge.run_sync(self._aio.first, reader._aio)
