"""Where no file can be opened, a first call says so as Python does, and loops that exist go on."""

from __future__ import annotations

import sys

import pytest

from child import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_first_call_without_files_raises_an_error_with_its_number(scope: str) -> None:
    """`error.errno` is EMFILE; afterwards the same bridge works."""
    finished = run_script(
        f"""
    import asyncio, errno, os, resource, syncline
    warm = syncline.Bridge(scope={scope!r})
    warm.run_sync(asyncio.sleep, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    cold = syncline.Bridge(scope={scope!r})
    try:
        cold.run_sync(asyncio.sleep, 0)
    except OSError as error:
        print(errno.errorcode[error.errno], os.strerror(error.errno) in str(error))
    print(warm.run_sync(asyncio.sleep, 0, "goes on"))
    for file in held:
        os.close(file)
    print(cold.run_sync(asyncio.sleep, 0, "works"))
    """
    )
    assert finished.lines == ["EMFILE True", "goes on", "works"], finished.err


def test_without_files_greenlet_is_not_taken_for_missing() -> None:
    """What can't be read just now is not "not installed": nested calls await in place as soon as it can."""
    finished = run_script(
        """
    import asyncio, contextlib, errno, os, resource, threading, syncline
    asyncio.run(asyncio.sleep(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    assert "greenlet" not in __import__("sys").modules
    async def where():
        return threading.current_thread().name
    async def nested():
        return syncline.run_sync(where)
    try:
        syncline.run_sync(nested)
    except OSError as error:
        print(errno.errorcode[error.errno])
    for file in held:
        os.close(file)
    print(syncline.run_sync(nested))
    """
    )
    assert finished.lines == ["EMFILE", "syncline"], finished.err
    finished.assert_clean()
