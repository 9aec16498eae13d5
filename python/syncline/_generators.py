"""Driving an async generator from sync code: every step on one loop and in one context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from . import _core

Y = TypeVar("Y")
S = TypeVar("S")


def drive(bridge: _core.Bridge, agen: AsyncGenerator[Y, S]) -> Generator[Y, S, None]:
    """Returns a sync generator over `agen`, with `send`, `throw` and `close`.

    Nothing is fetched ahead. Leaving the loop early, or dropping the generator, closes `agen` on its own loop.
    """
    pinned = bridge._pin()
    try:
        step: tuple[Any, ...] = (agen.__anext__,)
        while True:
            try:
                item = pinned.run_sync(*step)
            except StopAsyncIteration:
                return
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as error:
                step = (agen.athrow, error)
            else:
                step = (agen.asend, sent)
    finally:
        pinned.run_sync(agen.aclose)
