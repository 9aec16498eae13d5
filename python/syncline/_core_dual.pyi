# The part of the extension's stub that is about objects for both worlds. There is no such module when a program runs.
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import CodeType, FrameType, GenericAlias, TracebackType
from typing import Any, Self, TypeVar, overload

from typing_extensions import disjoint_base

_R = TypeVar("_R")
_S = TypeVar("_S")
_Y = TypeVar("_Y")

@disjoint_base
class CoroutineBase(Coroutine[Any, Any, _R]):
    """What `syncline.DualCoroutine` is made of. It is a coroutine itself (`asyncio.run` and `create_task` take it)."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, coro: Awaitable[_R] | None = None) -> None: ...
    def __await__(self) -> Generator[Any, Any, _R]: ...
    def run(self, timeout: float | None = None) -> _R:
        """Runs it from sync code, wherever that is, and returns its result. `timeout` in seconds.

        Raises what it raises, TimeoutError after it was cancelled and has cleaned up, RunnerClosedError or
        DeadlockError.
        """
    def send(self, value: Any) -> Any:
        """One step, as an event loop makes it. Returns what it waits for; raises StopIteration with its result at its
        end, and what it raises.
        """
    def throw(self, *args: Any) -> Any:
        """One step, in which this error is raised where it waits; else as `send`."""
    def close(self) -> None:
        """Ends it by a GeneratorExit where it waits. One that has not begun never runs."""
    @property
    def cr_await(self) -> Any: ...
    @property
    def cr_code(self) -> CodeType: ...
    @property
    def cr_frame(self) -> FrameType | None: ...
    @property
    def cr_running(self) -> bool: ...
    __name__: str
    __qualname__: str
    def _held(self) -> dict[str, Any]: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

@disjoint_base
class IteratorBase(Iterator[_Y], AsyncIterator[_Y]):
    """What `syncline.DualIterator` is made of."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, aiterable: AsyncIterable[_Y] | None = None, *, prefetch: int = ...) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Y: ...
    def close(self) -> None:
        """Ends the iteration in sync code: an async generator is closed, on its loop. Does nothing the second time."""
    def __aiter__(self) -> AsyncIterator[_Y]: ...
    def __anext__(self) -> Awaitable[_Y]: ...
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Async code's `close`: an async generator is closed. Does nothing the second time."""
    def _drop(self) -> None: ...
    def _begin_step(self) -> bool: ...
    def _end_step(self, failed: bool) -> None: ...
    def _step_there(self, method: str | None, args: tuple[Any, ...]) -> Awaitable[Any]: ...
    def _ahead(self) -> tuple[bool, _Y | Awaitable[_Y] | None]: ...
    def _stop_there(self) -> Awaitable[None] | None: ...
    def _last_there(self) -> Awaitable[None] | None: ...
    def _held(self) -> dict[str, Any]: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...

class GeneratorBase(IteratorBase[_Y], Generator[_Y, _S], AsyncGenerator[_Y, _S]):
    """What `syncline.DualGenerator` is made of."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, agen: AsyncGenerator[_Y, _S] | None = None) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Y: ...
    def send(self, value: _S) -> _Y:
        """Resumes the generator with a value; returns the next item."""
    @overload
    def throw(
        self,
        typ: type[BaseException],
        val: BaseException | object = ...,
        tb: TracebackType | None = ...,
        /,
    ) -> _Y:
        """Raises an exception where the generator is suspended; returns the next item."""
    @overload
    def throw(self, typ: BaseException, val: None = None, tb: TracebackType | None = ..., /) -> _Y:
        """Raises an exception where the generator is suspended; returns the next item."""
    def close(self) -> None:
        """Ends the iteration in sync code: an async generator is closed, on its loop. Does nothing the second time."""
    def __aiter__(self) -> AsyncGenerator[_Y, _S]: ...
    def __anext__(self) -> Coroutine[Any, Any, _Y]: ...
    def asend(self, value: _S) -> Coroutine[Any, Any, _Y]:
        """Async code's `send`: resumes the generator with a value; returns the next item."""
    @overload
    def athrow(
        self,
        typ: type[BaseException],
        val: BaseException | object = ...,
        tb: TracebackType | None = ...,
        /,
    ) -> Coroutine[Any, Any, _Y]:
        """Async code's `throw`: raises an exception where the generator is suspended; returns the next item."""
    @overload
    def athrow(
        self, typ: BaseException, val: None = None, tb: TracebackType | None = ..., /
    ) -> Coroutine[Any, Any, _Y]:
        """Async code's `throw`: raises an exception where the generator is suspended; returns the next item."""
    def aclose(self) -> Coroutine[Any, Any, None]:
        """Async code's `close`: ends the generator."""

@disjoint_base
class ManagerBase(AbstractContextManager[_Y, bool | None], AbstractAsyncContextManager[_Y, bool | None]):
    """What `syncline.DualContextManager` is made of."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def __init__(self, acm: AbstractAsyncContextManager[_Y, bool | None] | None = None) -> None: ...
    def __enter__(self) -> _Y: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...
    def __aenter__(self) -> Awaitable[_Y]: ...  # type: ignore[override]
    def __aexit__(  # type: ignore[override]
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Awaitable[bool | None]: ...
    def _once(self) -> None: ...
    def _is_entered(self) -> bool: ...
    def _give_up_when_dropped(self) -> None: ...
    def _leave_again(self, error: BaseException, /) -> None: ...
    def _enter_there(self) -> Awaitable[_Y]: ...
    def _leave_there(self, args: tuple[Any, ...]) -> Awaitable[bool | None]: ...
    def _end_step(self, failed_to_enter: bool) -> None: ...
    def _held(self) -> dict[str, Any]: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
