"""What `map` and `amap` were given. Mistakes are named here, before anything begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._kinds import closed_if_coroutine, name_of, type_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .progress import Progress

    Workers = Executor | Any | Callable[[], Executor | Any] | None


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of `map` or `amap`."""

    who: str
    """Which of the two it is."""
    fn: Callable[..., Any]
    iterables: tuple[Any, ...]
    limit: int
    ordered: bool
    timeout: float | None
    return_exceptions: bool
    with_input: bool
    progress: Progress
    executor: Workers
    chunk: int | None
    worker_retries: int = 0

    def __post_init__(self) -> None:
        who, name, kind = self.who, self.name, type_of(self.fn).__name__
        if not callable(self.fn):
            if closed_if_coroutine(self.fn):
                raise TypeError(f"{who}() got a coroutine; give it the async function: {who}({name}, ...)")
            raise TypeError(f"{who}() takes an async function and items to call it with, not {kind}")
        if not self.iterables:
            raise TypeError(f"{who}() needs items to call {name!r} with: {who}({name}, items)")
        for iterable in self.iterables:
            if not (hasattr(iterable, "__iter__") or hasattr(iterable, "__aiter__")):
                hint = "; call it" if callable(iterable) else ""
                kind = type(iterable).__name__
                raise TypeError(f"{who}() takes items from an iterable or an async one, not {kind}{hint}")
        self._check_count("limit", self.limit, "how many calls run at once")
        if self.timeout is not None:
            check_seconds(f"timeout of {who}() is the seconds that each call may take", self.timeout)
        if self.chunk is not None:
            self._check_count("chunk", self.chunk, "how many items an executor is given at a time")
            if self.executor is None:
                raise TypeError(f"{who}() got a chunk and no executor to give it to: executor=...")
        if self.worker_retries != 0:
            self._check_count(
                "worker_retries", self.worker_retries, "how often items of a dead worker are retried"
            )
            if self.executor is None:
                raise TypeError(
                    f"{who}() got worker_retries and no executor whose workers could die: executor=..."
                )
        if self.executor is not None:
            self._check_executor()

    @property
    def name(self) -> str:
        """The function's, or its type's."""
        return name_of(self.fn)

    def _check_executor(self) -> None:
        kind = type(self.executor).__name__
        if hasattr(self.executor, "submit") or hasattr(self.executor, "apply_async"):
            if isinstance(self.executor, type):
                name = self.executor.__name__
                raise TypeError(f"executor of {self.who}() is the class {name}; make one: executor={name}()")
            if hasattr(self.executor, "get_executor"):
                raise TypeError(
                    f"executor of {self.who}() got a {kind}; take its executor: client.get_executor()"
                )
        elif not callable(self.executor):
            raise TypeError(
                f"executor of {self.who}() is a concurrent.futures.Executor, a pool with apply_async, or a function "
                f"that makes one; not {kind}"
            )

    def _check_count(self, name: str, value: object, meaning: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} of {self.who}() is {meaning}, a whole number, not {value!r}")
        if value < 1:
            least = 0 if name == "worker_retries" else 1
            raise ValueError(f"{name} of {self.who}() is {meaning}, {least} or more, not {value!r}")


def check_seconds(meaning: str, value: object) -> None:
    """Raises TypeError or ValueError for what is no time to wait."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{meaning}, not {value!r}")
    if value < 0 or math.isnan(value):
        raise ValueError(f"{meaning}, not {value!r}")
