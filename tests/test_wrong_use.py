"""Wrong use: each message names the mistake and shows the right call. Warnings are errors in our tests, so these also
show that no coroutine is left un-awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import pytest

import syncline
from child import run_script


def load() -> int:
    return 1


async def fetch() -> int:
    return 1


async def numbers() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((load,), r"run_sync\(\) got the sync function \"load\"; call it directly: load\(\.\.\.\)"),
        ((5,), r"run_sync\(\) takes an async function and its arguments, not int"),
        ((None,), r"not NoneType"),
        ((), r"missing 1 required positional argument"),
    ],
)
def test_run_sync_takes_an_async_function(arguments: tuple[Any, ...], message: str) -> None:
    """Sync functions, values, nothing."""
    with pytest.raises(TypeError, match=message):
        syncline.run_sync(*arguments)


def test_run_sync_refuses_a_coroutine_and_closes_it() -> None:
    """The message shows both ways to do it right."""
    coroutine = fetch()
    with pytest.raises(TypeError, match=r"run_sync\(fetch, \.\.\.\), or use run\(fetch\(\.\.\.\)\)"):
        syncline.run_sync(coroutine)  # type: ignore[arg-type]
    assert coroutine.cr_frame is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (fetch, r"run_sync\(fetch, \.\.\.\)"),
        (load, r"run_sync\(load, \.\.\.\)"),
        (5, r"run\(\) takes an awaitable, such as a coroutine, not int"),
        (concurrent.futures.Future(), r"future\.result\(\)"),
        (numbers(), r"async generator"),
    ],
)
def test_run_takes_an_awaitable(argument: Any, message: str) -> None:
    """Functions, values, and things that look similar."""
    with pytest.raises(TypeError, match=message):
        syncline.run(argument)


def test_a_used_coroutine_is_named() -> None:
    """Finished ones and suspended ones."""
    used = fetch()
    assert syncline.run(used) == 1
    with pytest.raises(RuntimeError, match=r"already been awaited; make a new one: run\(fetch\(\.\.\.\)\)"):
        syncline.run(used)
    suspended = asyncio.sleep(0)
    suspended.send(None)
    with pytest.raises(RuntimeError, match="already been awaited"):
        syncline.run(suspended)
    suspended.close()


def test_a_missing_argument_is_the_functions_own_error() -> None:
    """As if the function were called directly."""
    with pytest.raises(TypeError, match=r"fetch\(\) takes 0 positional arguments but 1 was given"):
        syncline.run_sync(fetch, 1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"scope": "planet"},
            ValueError,
            r"scope must be one of \"process\", \"thread\", \"caller\", not \"planet\"",
        ),
        ({"nested": "never"}, ValueError, r"nested must be one of"),
        ({"context": "lose"}, ValueError, r"context must be one of"),
        ({"loop_factory": 5}, TypeError, r"such as uvloop\.new_event_loop, not int"),
        ({"cleanup_timeout": "1"}, TypeError, r"cleanup_timeout"),
        ({"stall_after": float("nan")}, ValueError, r"stall_after"),
        ({"nonsense": 1}, TypeError, r"nonsense"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """The constructor says what it takes."""
    with pytest.raises(error, match=message):
        syncline.Bridge(**options)


def test_a_call_after_close_says_so() -> None:
    """With the bridge's name (case 34)."""
    bridge = syncline.Bridge(name="done")
    assert bridge.run_sync(fetch) == 1
    bridge.close()
    bridge.close()
    for call in (lambda: bridge.run_sync(fetch), lambda: bridge.run(fetch()), bridge.synced(fetch)):
        with pytest.raises(syncline.RunnerClosedError, match='"done" is closed; make a new one'):
            call()


def test_synced_refuses_what_is_surely_sync() -> None:
    """A value that can't be called, at the decoration; a sync function, at the call at the latest."""
    with pytest.raises(TypeError, match="synced"):
        syncline.synced(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="load"):
        syncline.synced(load)()  # type: ignore[call-overload]


def test_a_subinterpreter_can_not_import_the_extension() -> None:
    """An ImportError there; calls in the main one work all the time, and so does a subprocess (case 88)."""
    finished = run_script(
        """
        import subprocess
        import sys
        import syncline

        try:
            import _interpreters as interpreters
            run = interpreters.exec
        except ImportError:
            import _xxsubinterpreters as interpreters
            run = interpreters.run_string

        async def fetch():
            return "fetched"

        print(syncline.run_sync(fetch), flush=True)
        other = interpreters.create()
        run(other, '''if True:
            try:
                import syncline
            except ImportError as error:
                print(error, flush=True)
        ''')
        print(syncline.run_sync(fetch), flush=True)
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)  # (os.fork() fails then, without us, too)
        interpreters.destroy(other)
        print(syncline.run_sync(fetch), flush=True)
        """,
        flags=("-W", "ignore::DeprecationWarning"),
    )
    finished.assert_clean()
    refusal = "module syncline._core does not support loading in subinterpreters"
    assert finished.lines == ["fetched", refusal, "fetched", "child", "fetched"]
