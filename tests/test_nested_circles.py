"""Calls that come back to a bridge whose loop is blocked, by way of tasks and workers that wait elsewhere, or will."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from circle_code import WAYS, Ask, Function
from syncline import Bridge

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def bridges() -> Iterator[list[Bridge]]:
    with ExitStack() as stack:
        blocked = stack.enter_context(Bridge(name="blocked", nested="thread"))
        others = [stack.enter_context(Bridge(name=f"other-{i}", in_async="home")) for i in range(3)]
        yield [blocked, *others]


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("back", WAYS)
@pytest.mark.parametrize("length", [2, 3])
def test_a_call_that_comes_back_never_waits_for_the_loop_that_waits_for_it(
    bridges: list[Bridge], length: int, first: Ask, back: Ask
) -> None:
    """Sync code blocks its loop for a second bridge, whose task waits for a third one, whose task calls the first."""
    blocked, second, *rest = bridges

    async def answer() -> int:
        return 42

    def asking(on: list[Bridge]) -> Function:
        async def asks() -> int:
            if on:
                return await first(on[0], asking(on[1:]))
            return await back(blocked, answer)

        return asks

    async def blocks() -> int:
        return second.run_sync(asking(rest[: length - 1]))

    assert blocked.run_sync(blocks) == 42
    assert blocked.run_sync(answer) == 42
