"""Functions whose calls run inside of a context manager: `contextlib.ContextDecorator` for both worlds."""

from __future__ import annotations

import functools
import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ._kinds import is_async_fn, is_async_gen_fn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._core import ManagerBase


def around(make: Callable[[], ManagerBase[Any]], fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, each of whose calls runs inside of a manager that `make` returns; generators from first step to last."""
    if is_async_gen_fn(fn):

        @functools.wraps(fn)
        async def async_generator(*args: Any, **kwargs: Any) -> Any:
            async with make(), aclosing(fn(*args, **kwargs)) as items:
                async for item in items:
                    yield item

        return async_generator
    if is_async_fn(fn):

        @functools.wraps(fn)
        async def async_function(*args: Any, **kwargs: Any) -> Any:
            async with make():
                return await fn(*args, **kwargs)

        return async_function
    if inspect.isgeneratorfunction(inspect.unwrap(fn)):

        @functools.wraps(fn)
        def generator(*args: Any, **kwargs: Any) -> Any:
            with make():
                steps: Generator[Any, Any, Any] = fn(*args, **kwargs)
                return (yield from steps)

        return generator

    @functools.wraps(fn)
    def function(*args: Any, **kwargs: Any) -> Any:
        with make():
            return fn(*args, **kwargs)

    return function
