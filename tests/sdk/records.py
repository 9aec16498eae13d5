"""Async classes whose `__init__` nobody wrote, or whose members are not what their definitions say: dataclasses,
attrs's classes, decorators that change a method, protocols, and classes that find their attributes when asked."""

from __future__ import annotations

import abc
import enum
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, runtime_checkable

import attrs

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="AsyncBase")


class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


@dataclass
class AsyncRecord:
    """Has what only its constructor takes, and what only that makes."""

    url: str
    secret: InitVar[str]
    retries: int = field(default=3, kw_only=True)
    cache: dict[str, int] = field(default_factory=dict[str, int])
    hidden: str = field(default="hidden", init=False)
    kind: ClassVar[str] = "record"

    def __post_init__(self, secret: str) -> None:
        self.token = secret.upper()

    async def get(self, key: str) -> int:
        self.last = key
        return self.cache.setdefault(key, len(self.cache))


@dataclass
class AsyncFeed(Generic[R]):
    """Has something to iterate over, perhaps."""

    items: list[R] = field(default_factory=list[R])
    source: AsyncIterator[R] | None = None
    parent: AsyncFeed[R] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def each(self) -> AsyncIterator[R]:
        for item in self.items:
            yield item

    async def rest(self, *, wanted: bool = True) -> AsyncIterator[R] | list[R] | None:
        return self.each() if wanted else self.items or None


class AsyncJob(Generic[P, R]):
    """Is generic in the parameters of a function."""

    def __init__(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> None:
        self._call = functools.partial(fn, *args, **kwargs)

    async def result(self) -> R:
        return await self._call()


@attrs.define
class AsyncDefined:
    """Has attributes of attrs's, with a validator, and one with another name for its constructor."""

    url: str
    retries: int = attrs.field(default=3, validator=attrs.validators.instance_of(int))
    _token: str = attrs.field(default="token", alias="token")
    names: list[str] = attrs.field(factory=list[str])
    size: int = attrs.field(init=False, default=0)

    async def get(self) -> str:
        return f"{self.url}/{self._token}"


@attrs.frozen(kw_only=True)
class AsyncFrozen:
    """Nothing of it can be set."""

    number: int
    level: Level = Level.LOW

    async def next(self) -> AsyncFrozen:
        return AsyncFrozen(number=self.number + 1)


def again(times: int) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Keeps the result's type."""

    def decorate(fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(fn)
        async def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for _ in range(times - 1):
                await fn(*args, **kwargs)
            return await fn(*args, **kwargs)

        return called

    return decorate


def listed(
    fn: Callable[Concatenate[S, P], AsyncIterator[R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, list[R]]]:
    """Makes a coroutine of an async generator."""

    @functools.wraps(fn)
    async def all_of(self: S, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        return [each async for each in fn(self, *args, **kwargs)]

    return all_of


def one_by_one(fn: Callable[P, Awaitable[list[R]]]) -> Callable[P, AsyncIterator[R]]:
    """Makes an async generator of a coroutine."""

    @functools.wraps(fn)
    async def each_of(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        for each in await fn(*args, **kwargs):
            yield each

    return each_of


def vague(fn: Any) -> Any:
    return fn


@runtime_checkable
class AsyncReader(Protocol):
    """What reads."""

    name: str

    async def read(self, count: int = -1, /) -> bytes: ...


class AsyncBase(abc.ABC):
    """What all have."""

    __slots__ = ("__weakref__", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    @abc.abstractmethod
    async def read(self, count: int = -1, /) -> bytes: ...

    async def another(self) -> AsyncBase:
        return type(self)("another")

    async def another_reader(self) -> AsyncReader:
        return type(self)("another")

    def __lt__(self, other: Any) -> bool:
        return isinstance(other, AsyncBase) and self.name < other.name


class Single:
    """Equal to itself only."""


def single() -> Single:
    return Single()


NOTHING = object()


class AsyncChanging(AsyncBase):
    """Decorated, with classes in it, and a default that is one single object."""

    __slots__ = ("_rate",)

    class AsyncPart:
        """A part of it."""

        def __init__(self, of: AsyncChanging) -> None:
            self.of = of

        async def whole(self) -> AsyncChanging:
            return self.of

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._rate = 1.0

    async def read(self, count: int = -1, /) -> bytes:
        return self.name.encode()[: count if count >= 0 else None]

    @property
    def rate(self) -> float:
        """What it costs."""
        return self._rate

    @rate.setter
    def rate(self, value: float | str) -> None:
        self._rate = float(value)

    @rate.deleter
    def rate(self) -> None:
        self._rate = 0.0

    @again(2)
    async def slow(self) -> list[AsyncBase]:
        return [self]

    @listed
    async def parts(self, count: int = 2) -> AsyncIterator[AsyncPart]:
        for _ in range(count):
            yield self.AsyncPart(self)

    @one_by_one
    async def pages(self) -> list[AsyncBase]:
        return [self, self]

    @vague
    async def anything(self, key: str = "key") -> str:
        return key

    async def default(self, *, key: object = NOTHING, made: Single = single()) -> bool:  # noqa: B008 -- on purpose
        known = AsyncChanging.default.__kwdefaults__ or {}
        return key is NOTHING and made is known["made"]

    async def first(self, reader: AsyncReader | AsyncBase) -> bytes:
        return await reader.read(1)


class AsyncPath:
    """Finds what it is asked for."""

    def __init__(self, path: str = "") -> None:
        self._path = path

    def __getattr__(self, name: str) -> AsyncPath:
        if name.startswith("_"):
            raise AttributeError(name)
        return AsyncPath(f"{self._path}/{name}")

    async def get(self) -> str:
        return self._path

    async def __call__(self, **query: str) -> str:
        return f"{self._path}?{query}"
