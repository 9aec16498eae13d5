"""map and group: what is no function, no time, or used in the wrong place is named."""

from __future__ import annotations

from typing import Any

import pytest

import syncline
from neutral import turn


async def double(item: int) -> int:
    return 2 * item


def test_mistakes_with_a_group_are_named() -> None:
    """Coroutines, sync functions, and use outside of the block."""

    def load() -> int:
        return 1

    coroutine: Any = double(1)
    sync: Any = load
    group = syncline.group()
    with pytest.raises(RuntimeError, match="inside of the group's block"):
        group.start(double, 1)
    with group, pytest.raises(TypeError, match=r"start\(double, \.\.\.\)"):
        group.start(coroutine)
    with pytest.raises(RuntimeError, match="inside of the group's block"):
        group.start(double, 1)
    with pytest.raises(RuntimeError, match="used once"), group:
        pass
    with pytest.raises(ExceptionGroup) as raised, syncline.group() as group:
        group.start(sync)
    assert "the sync function 'load' has run and returned int" in str(raised.value.exceptions[0])


@pytest.mark.parametrize(
    ("timeout", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("5", TypeError), (True, TypeError)]
)
def test_a_time_that_is_none_is_refused_at_once(timeout: Any, kind: type[Exception]) -> None:
    """Not when the group is entered, and with words that say what it is."""
    with pytest.raises(kind, match=r"timeout of group\(\) is the seconds that its block may take, not "):
        syncline.group(timeout=timeout)


def test_a_coroutine_in_the_place_of_a_function_is_closed() -> None:
    """It would be reported as never awaited."""
    with pytest.raises(TypeError, match=r"map\(\) got a coroutine; give it the async function: map\(turn, "):
        syncline.map(turn(), [1])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(ValueError, match="0 or more"):
        syncline.map(turn, [1], worker_retries=-1)  # type: ignore[call-overload]
