"""Twins of classes that are written in ways in which annotations mislead whoever only reads them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, runtime_checkable

import syncline

MakeBridge = Callable[..., syncline.Bridge]


class AsyncPart:
    async def one(self) -> int:
        return 1


class AsyncOwner:
    """Its method is called what its other one's annotation says."""

    async def list(self) -> int:
        return 2

    async def parts(self) -> list[AsyncPart]:
        return [AsyncPart()]


def listed(fn: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def all_of(self: Any) -> list[Any]:
        return [each async for each in fn(self)]

    return all_of


class AsyncLister:
    @listed
    async def parts(self) -> AsyncIterator[AsyncPart]:
        yield AsyncPart()


@runtime_checkable
class AsyncNamed(Protocol):
    name: str

    async def one(self) -> int: ...


class Options:
    """Has nothing to do with twins."""


class AsyncWithOptions:
    name = "options"

    def __init__(self, options: Options) -> None:
        self.options = options

    async def one(self) -> int:
        return 1

    async def itself(self) -> AsyncNamed:
        return self


def test_a_method_called_list_is_no_type(make_bridge: MakeBridge) -> None:
    """What others say of lists is the builtin one, whose items come as twins."""
    bridge = make_bridge()
    part, owner = bridge.blocking(AsyncPart), bridge.blocking(AsyncOwner)()
    assert [type(each) for each in owner.parts()] == [part]
    assert owner.list() == 2


def test_a_decorator_may_make_a_list_of_items(make_bridge: MakeBridge) -> None:
    """`functools.wraps` says of the list that it is an iterator; they come as twins."""
    bridge = make_bridge()
    part, lister = bridge.blocking(AsyncPart), bridge.blocking(AsyncLister)()
    assert [type(each) for each in lister.parts()] == [part]


def test_a_protocol_with_attributes_has_a_twin_beside_others(make_bridge: MakeBridge) -> None:
    """Python can't tell whether a class implements it; an object comes as the twin of its own class."""
    bridge = make_bridge()
    bridge.blocking(AsyncNamed)
    kind = bridge.blocking(AsyncWithOptions)
    made = kind(Options())
    assert made.itself() is made
    assert (made.one(), type(made.options)) == (1, Options)
