"""Classes that are written in odd ways, all of them valid: what a twin is written of has to be what type checkers take
it for."""

from __future__ import annotations

import enum
import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, Generic, NoReturn, ParamSpec, TypeVar, overload

from .odd_base import AsyncBase

P = ParamSpec("P")
R = TypeVar("R")


class Color(enum.Enum):
    RED = "red"
    BLUE = 'it\'s "blue"\n\\'


class Box(Generic[R]):
    """A container that nobody can make anew."""

    def __init__(self, content: R) -> None:
        self.content = content


def with_token(
    fn: Callable[Concatenate[AsyncOdd, str, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[AsyncOdd, P], Coroutine[Any, Any, R]]:
    """Gives an argument that callers know nothing of."""

    @functools.wraps(fn)
    async def with_it(self: AsyncOdd, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await fn(self, "token", *args, **kwargs)

    return with_it


def with_number(
    number: int,
) -> Callable[
    [Callable[Concatenate[AsyncOdd, int, P], Coroutine[Any, Any, R]]],
    Callable[Concatenate[AsyncOdd, P], Coroutine[Any, Any, R]],
]:
    """The same, as a function that makes the decorator."""

    def decorate(
        fn: Callable[Concatenate[AsyncOdd, int, P], Coroutine[Any, Any, R]],
    ) -> Callable[Concatenate[AsyncOdd, P], Coroutine[Any, Any, R]]:
        @functools.wraps(fn)
        async def with_it(self: AsyncOdd, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return await fn(self, number, *args, **kwargs)

        return with_it

    return decorate


@dataclass(slots=True)
class AsyncOdd:
    r"""Has a \d in its docstring.

    >>> "and \n one here"
    """

    number: int
    limit: float = float("inf")
    other: float = float("nan")
    color: Color = Color.BLUE
    tags: list[str] = field(default_factory=list[str])

    def __await__(self) -> Generator[Any, Any, AsyncOdd]:
        return self.itself().__await__()

    async def itself(self) -> AsyncOdd:
        return self

    def plainly(self) -> AsyncOdd:
        """What it gives can be awaited, and has a twin: it comes as that."""
        return self

    async def defaults(
        self,
        *,
        pattern: str = '\\d+\n"',
        data: bytes = b"\x00\xff",
        most: float = float("inf"),
        least: float = -float("inf"),
        key: Callable[[int], int] = abs,
        rest: Any = ...,
        below: int = -1,
        of: frozenset[int] = frozenset({1}),
    ) -> tuple[Any, ...]:
        return (pattern, data, most, least, key, rest, below, of)

    async def names(self, aio: int, found: int, item: AsyncOdd, key: str, **args: AsyncOdd) -> AsyncOdd:
        """Its parameters are called what variables of a twin's method are called."""
        assert (aio, found, key) == (1, 2, "key")
        return next(iter(args.values()), item)

    @overload
    async def either(self, found: int) -> int: ...
    @overload
    async def either(self, found: str, aio: int = 1) -> str: ...
    async def either(self, found: int | str, aio: int = 1) -> int | str:
        return found

    @with_token
    async def tokened(self, token: str, times: int) -> str:
        return token * times

    @with_number(3)
    async def numbered(self, number: int, text: str = "x", /) -> str:
        return text * number

    async def fails(self) -> NoReturn:
        raise LookupError

    async def grouped(self) -> defaultdict[str, list[AsyncOdd]]:
        return defaultdict(list, odd=[self])

    async def ordered(self) -> OrderedDict[str, AsyncOdd]:
        return OrderedDict(odd=self)

    async def queued(self) -> deque[AsyncOdd]:
        return deque([self], maxlen=3)

    async def boxed(self) -> Box[AsyncOdd]:
        return Box(self)

    async def streamed(self, source: AsyncIterable[AsyncOdd]) -> AsyncIterator[AsyncOdd]:
        async for each in source:
            yield each

    async def waiting(self) -> list[Awaitable[AsyncOdd]]:
        return [self]

    async def added(self) -> AsyncGenerator[AsyncOdd, AsyncOdd | None]:
        """Each item is the sum of all that was sent."""
        total = self
        while True:
            sent = yield total
            total = type(self)(total.number + (sent.number if isinstance(sent, AsyncOdd) else 0))

    def said_to_add(self) -> AsyncGenerator[AsyncOdd, AsyncOdd | None]:
        return self.added()

    async def later_adds(self) -> AsyncGenerator[AsyncOdd, AsyncOdd | None]:
        return self.added()

    @property
    def adds(self) -> AsyncGenerator[AsyncOdd, AsyncOdd | None]:
        return self.added()

    @property
    async def adds_later(self) -> AsyncGenerator[AsyncOdd, AsyncOdd | None]:
        return self.added()

    async def _counted(self) -> AsyncGenerator[int, AsyncOdd]:
        total = 0
        while True:
            total += (yield total).number

    @property
    def counts(self) -> AsyncGenerator[int, AsyncOdd]:
        return self._counted()

    def echo(self) -> AsyncGenerator[int, int]:
        return self.echoes

    @property
    def echoes(self) -> AsyncGenerator[int, int]:
        return self._echo()

    async def _echo(self) -> AsyncGenerator[int, int]:
        sent = 0
        while True:
            sent = yield sent

    @property
    def odds(self) -> AsyncIterator[AsyncOdd]:
        return self.added()

    @property
    async def odds_later(self) -> AsyncIterator[AsyncOdd]:
        return self.added()

    @property
    def held(self) -> AbstractAsyncContextManager[AsyncOdd]:
        return nullcontext(self)

    @property
    async def held_later(self) -> AbstractAsyncContextManager[AsyncOdd]:
        return nullcontext(self)


class AsyncChild(AsyncBase[AsyncOdd, int, str]):
    LIMIT: Final = 10
    MOST: Final[int] = 11

    class Config:
        """A class in a class."""

        debug = True

    async def config(self) -> Config:
        return self.Config()

    async def positional(self, a: int, b: int = 2, /, c: int = 3, *rest: str, d: int, **more: float) -> int:
        return a + b + c + d

    partial = functools.partialmethod(positional, 1)


class AsyncGrandchild(AsyncChild):
    """Adds nothing."""
