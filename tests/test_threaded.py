"""threaded: a sync function becomes an async one."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

import syncline

Run = Callable[[Callable[[], Any]], Any]


@syncline.threaded
def add(a: int, *, b: int = 1) -> tuple[int, int]:
    """Adds, and says where."""
    return a + b, threading.get_ident()


def test_the_function_runs_in_a_worker(anywhere: Run) -> None:
    """Awaited, it runs in another thread; name, docstring and signature are kept."""

    async def main() -> None:
        total, thread = await add(1, b=2)
        assert total == 3
        assert thread != threading.get_ident()

    anywhere(main)
    assert add.__name__ == "add"
    assert add.__doc__ == "Adds, and says where."
    assert str(inspect.signature(add)) == "(a: 'int', *, b: 'int' = 1) -> 'tuple[int, int]'"
    assert inspect.iscoroutinefunction(add)
    assert add.__wrapped__(1)[1] == threading.get_ident()  # type: ignore[attr-defined]


def test_methods_of_every_kind_work(anywhere: Run) -> None:
    """On methods, and below staticmethod and classmethod."""

    class Thing:
        @syncline.threaded
        def method(self, value: int) -> tuple[object, int]:
            return self, value

        @staticmethod
        @syncline.threaded
        def static(value: int) -> int:
            return value

        @classmethod
        @syncline.threaded
        def of_class(cls, value: int) -> tuple[object, int]:
            return cls, value

    async def main() -> None:
        thing = Thing()
        assert await thing.method(1) == (thing, 1)
        assert await thing.static(2) == 2
        assert await Thing.of_class(3) == (Thing, 3)

    anywhere(main)


def test_a_limiter_can_be_chosen(anywhere: Run) -> None:
    """`@threaded(limiter=...)`: the calls use its tokens."""
    limiter = syncline.ThreadLimiter(1)

    @syncline.threaded(limiter=limiter)
    def count() -> int:
        return limiter.borrowed_tokens

    async def main() -> None:
        assert await count() == 1

    anywhere(main)
    assert limiter.borrowed_tokens == 0


def test_keywords_called_limiter_are_the_functions_own(anywhere: Run) -> None:
    """No keyword argument of the function's is taken for an option."""

    @syncline.threaded
    def function(fn: int, limiter: int, self: int) -> tuple[int, int, int]:
        return fn, limiter, self

    async def main() -> None:
        assert await function(fn=1, limiter=2, self=3) == (1, 2, 3)
        assert await syncline.to_thread(dict, fn=1, limiter=2, self=3) == {"fn": 1, "limiter": 2, "self": 3}
        limiter = syncline.ThreadLimiter(1)
        assert await limiter.to_thread(dict, fn=1, limiter=2, self=3) == {"fn": 1, "limiter": 2, "self": 3}

    anywhere(main)


def test_a_coroutine_that_nobody_awaits_is_reported() -> None:
    """As with any async function: forgetting the await is seen."""
    with pytest.warns(RuntimeWarning, match="never awaited"):
        add(1)
