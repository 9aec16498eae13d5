r"""Blocking twins, written by syncline.

This file is written. Change the async classes, and write it again:

    python -m syncline twin \
        --line-length=110 \
        sdk.odd:AsyncOdd=BlockingOdd \
        sdk.odd_base:AsyncBase \
        sdk.odd:AsyncChild \
        sdk.odd:AsyncGrandchild
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, cast, overload

from syncline.twins import OMITTED, Twin, entered, generated, iterated

from sdk.odd import AsyncChild, AsyncGrandchild, AsyncOdd, Box, Color
from sdk.odd_base import AsyncBase, K, T, Ts

if TYPE_CHECKING:
    from decimal import Decimal as Dec


class BlockingOdd(Twin[AsyncOdd], of=AsyncOdd):
    r"""Has a \d in its docstring.

    >>> "and \n one here"
    """

    def __init__(
        self,
        number: int,
        limit: float = float("inf"),
        other: float = float("nan"),
        color: Color = Color.BLUE,
        tags: list[str] = OMITTED,
    ) -> None:
        self._make(AsyncOdd, number=number, limit=limit, other=other, color=color, tags=tags)

    @property
    def number(self) -> int:
        return self._aio.number

    @number.setter
    def number(self, value: int) -> None:
        self._aio.number = value

    @property
    def limit(self) -> float:
        return self._aio.limit

    @limit.setter
    def limit(self, value: float) -> None:
        self._aio.limit = value

    @property
    def other(self) -> float:
        return self._aio.other

    @other.setter
    def other(self, value: float) -> None:
        self._aio.other = value

    @property
    def color(self) -> Color:
        return self._aio.color

    @color.setter
    def color(self, value: Color) -> None:
        self._aio.color = value

    @property
    def tags(self) -> list[str]:
        return self._aio.tags

    @tags.setter
    def tags(self, value: list[str]) -> None:
        self._aio.tags = value

    def run(self, timeout: float | None = None) -> BlockingOdd:
        found = self._bridge.run(self._aio, timeout=timeout)
        return BlockingOdd._of(found, self._bridge)

    def itself(self) -> BlockingOdd:
        found = self._bridge.run_sync(self._aio.itself)
        return BlockingOdd._of(found, self._bridge)

    def plainly(self) -> BlockingOdd:
        """What it gives can be awaited, and has a twin: it comes as that."""
        found = self._bridge.call(self._aio.plainly)
        return BlockingOdd._of(found, self._bridge)

    def defaults(
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
        return self._bridge.run_sync(
            self._aio.defaults,
            pattern=pattern,
            data=data,
            most=most,
            least=least,
            key=key,
            rest=rest,
            below=below,
            of=of,
        )

    def names(self, aio: int, found: int, item: BlockingOdd, key: str, **args: BlockingOdd) -> BlockingOdd:
        """Its parameters are called what variables of a twin's method are called."""
        found_ = self._bridge.run_sync(
            self._aio.names, aio, found, item._aio, key, **{key: item._aio for key, item in args.items()}
        )
        return BlockingOdd._of(found_, self._bridge)

    @overload
    def either(self, found: int) -> int: ...
    @overload
    def either(self, found: str, aio: int = 1) -> str: ...
    def either(self, found: int | str, aio: int = 1) -> int | str:
        aio_: Any = self._aio
        found_: int | str = self._bridge.run_sync(aio_.either, found, aio)
        return found_

    def tokened(self, times: int) -> str:
        aio: Any = self._aio
        found: str = self._bridge.run_sync(aio.tokened, times)
        return found

    def numbered(self, text: str = "x", /) -> str:
        aio: Any = self._aio
        found: str = self._bridge.run_sync(aio.numbered, text)
        return found

    def fails(self) -> NoReturn:
        self._bridge.run_sync(self._aio.fails)
        raise AssertionError("fails() has returned")

    def grouped(self) -> defaultdict[str, list[BlockingOdd]]:
        found = self._bridge.run_sync(self._aio.grouped)
        return defaultdict(
            cast("Any", found.default_factory),
            {key: [BlockingOdd._of(item1, self._bridge) for item1 in item] for key, item in found.items()},
        )

    def ordered(self) -> OrderedDict[str, BlockingOdd]:
        found = self._bridge.run_sync(self._aio.ordered)
        return OrderedDict({key: BlockingOdd._of(item, self._bridge) for key, item in found.items()})

    def queued(self) -> deque[BlockingOdd]:
        found = self._bridge.run_sync(self._aio.queued)
        return deque([BlockingOdd._of(item, self._bridge) for item in found], found.maxlen)

    def boxed(self) -> Box[AsyncOdd]:
        return self._bridge.run_sync(self._aio.boxed)

    def streamed(self, source: AsyncIterable[AsyncOdd]) -> Generator[BlockingOdd, None, None]:
        return generated(
            self._bridge, self._aio.streamed(source), lambda found: BlockingOdd._of(found, self._bridge)
        )

    def waiting(self) -> list[Awaitable[AsyncOdd]]:
        return self._bridge.run_sync(self._aio.waiting)

    def added(self) -> Generator[BlockingOdd, BlockingOdd | None, None]:
        """Each item is the sum of all that was sent."""
        return generated(self._bridge, self._aio.added(), lambda found: BlockingOdd._of(found, self._bridge))

    def said_to_add(self) -> Generator[BlockingOdd, BlockingOdd | None, None]:
        return generated(
            self._bridge, self._aio.said_to_add(), lambda found: BlockingOdd._of(found, self._bridge)
        )

    def later_adds(self) -> Generator[BlockingOdd, BlockingOdd | None, None]:
        return generated(
            self._bridge,
            self._bridge.run_sync(self._aio.later_adds),
            lambda found: BlockingOdd._of(found, self._bridge),
        )

    @property
    def adds(self) -> Generator[BlockingOdd, BlockingOdd | None, None]:
        return generated(self._bridge, self._aio.adds, lambda found: BlockingOdd._of(found, self._bridge))

    @property
    def adds_later(self) -> Generator[BlockingOdd, BlockingOdd | None, None]:
        return generated(
            self._bridge,
            self._bridge.run(self._aio.adds_later),
            lambda found: BlockingOdd._of(found, self._bridge),
        )

    @property
    def counts(self) -> Generator[int, BlockingOdd, None]:
        return generated(self._bridge, self._aio.counts, None)

    def echo(self) -> Generator[int, int, None]:
        return generated(self._bridge, self._aio.echo())

    @property
    def echoes(self) -> Generator[int, int, None]:
        return generated(self._bridge, self._aio.echoes)

    @property
    def odds(self) -> Iterator[BlockingOdd]:
        return iterated(self._bridge, self._aio.odds, lambda found: BlockingOdd._of(found, self._bridge))

    @property
    def odds_later(self) -> Iterator[BlockingOdd]:
        return iterated(
            self._bridge,
            self._bridge.run(self._aio.odds_later),
            lambda found: BlockingOdd._of(found, self._bridge),
        )

    @property
    def held(self) -> AbstractContextManager[BlockingOdd]:
        return entered(self._bridge, self._aio.held, lambda found: BlockingOdd._of(found, self._bridge))

    @property
    def held_later(self) -> AbstractContextManager[BlockingOdd]:
        return entered(
            self._bridge,
            self._bridge.run(self._aio.held_later),
            lambda found: BlockingOdd._of(found, self._bridge),
        )


class Base(Twin[AsyncBase[T, *Ts]], Generic[T, *Ts], of=AsyncBase):
    r"""Its first line has a \ and a    ."""

    kind = AsyncBase.kind

    def __init__(self, item: T, *rest: *Ts, factor: Dec | None = None) -> None:
        aio: Any = AsyncBase
        self._make(aio, item, *rest, factor=factor)

    @property
    def item(self) -> T:
        return self._aio.item

    @item.setter
    def item(self, value: T) -> None:
        self._aio.item = value

    def scaled(self, by: Dec) -> Dec | None:
        return self._bridge.run_sync(self._aio.scaled, by)

    def apply(self, function: Callable[[T], Awaitable[K]]) -> K:
        aio: Any = self._aio
        found: K = self._bridge.run_sync(aio.apply, function)
        return found

    def rest(self) -> tuple[T, *Ts]:
        return self._bridge.run_sync(self._aio.rest)


class Child(Base[Any, *tuple[Any, ...]], of=AsyncChild):
    kind = AsyncChild.kind
    LIMIT = AsyncChild.LIMIT
    MOST = AsyncChild.MOST
    Config = AsyncChild.Config

    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncChild: ...

        @property
        def _aio(self) -> AsyncChild: ...

    def __init__(self, item: BlockingOdd, *rest: *tuple[int, str], factor: Dec | None = None) -> None:
        self._make(AsyncChild, item._aio, *rest, factor=factor)

    @property
    def item(self) -> BlockingOdd:
        found = self._aio.item
        return BlockingOdd._of(found, self._bridge)

    @item.setter
    def item(self, value: BlockingOdd) -> None:
        self._aio.item = value._aio

    def scaled(self, by: Dec) -> Dec | None:
        return self._bridge.run_sync(self._aio.scaled, by)

    def apply(self, function: Callable[[AsyncOdd], Awaitable[K]]) -> K:
        aio: Any = self._aio
        found: K = self._bridge.run_sync(aio.apply, function)
        return found

    def rest(self) -> tuple[BlockingOdd, *tuple[int, str]]:
        found = self._bridge.run_sync(self._aio.rest)
        return (BlockingOdd._of(found[0], self._bridge), *found[1:])

    def config(self) -> AsyncChild.Config:
        return self._bridge.run_sync(self._aio.config)

    def positional(self, a: int, b: int = 2, /, c: int = 3, *rest: str, d: int, **more: float) -> int:
        return self._bridge.run_sync(self._aio.positional, a, b, c, *rest, d=d, **more)

    def partial(self, b: int = 2, /, c: int = 3, *rest: str, d: int, **more: float) -> int:
        aio: Any = self._aio
        found: int = self._bridge.run_sync(aio.partial, b, c, *rest, d=d, **more)
        return found


class Grandchild(Child, of=AsyncGrandchild):
    """Adds nothing."""

    if TYPE_CHECKING:

        @property
        def aio(self) -> AsyncGrandchild: ...

        @property
        def _aio(self) -> AsyncGrandchild: ...

    def __init__(self, item: BlockingOdd, *rest: *tuple[int, str], factor: Dec | None = None) -> None:
        self._make(AsyncGrandchild, item._aio, *rest, factor=factor)
