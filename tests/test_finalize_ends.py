"""`finalize` at the ends of processes: exit, fork, signals; in fresh interpreters."""

from __future__ import annotations

import pytest

from child import run_script

SETUP = """
    import asyncio, gc, os, signal, sys, threading, time
    import syncline

    class Owner: pass

    async def clean(name):
        await asyncio.sleep(0.01)
        print(name, threading.current_thread().name, flush=True)
"""


def test_what_is_left_runs_at_exit_before_loops_are_closed() -> None:
    """The latest first; background tasks of the loop still run then."""
    finished = run_script(
        SETUP
        + """
    ticks = []
    async def ticking():
        try:
            while True:
                await asyncio.sleep(0.001)
                ticks.append(1)
        finally:
            print("task cancelled", flush=True)

    async def needs_task(name):
        before = len(ticks)
        while len(ticks) < before + 3:
            await asyncio.sleep(0.001)
        print(name, flush=True)

    bridge = syncline.Bridge(name="own")
    owner = Owner()
    bridge.submit(ticking)
    for number in range(3):
        bridge.finalize(owner, clean, number)
    bridge.finalize(owner, needs_task, "the task still runs")
    kept = bridge.finalize(owner, clean, "not at exit")
    kept.atexit = False
    print("main ends", flush=True)
    """
    )
    expected = ["main ends", "the task still runs", "2 own", "1 own", "0 own", "task cancelled"]
    assert finished.lines == expected, finished.err
    finished.assert_clean()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_each_scope_cleans_up_at_exit(scope: str) -> None:
    """On the loop where the object lives, also the main thread's own."""
    finished = run_script(
        SETUP
        + f"""
    bridge = syncline.Bridge(name="own", scope="{scope}")
    owner = Owner()
    bridge.finalize(owner, clean, "cleaned")
    """
    )
    (line,) = finished.lines
    assert line.startswith("cleaned " + ("MainThread" if scope == "caller" else "own")), finished.err
    finished.assert_clean()


def test_loops_of_others_clean_up_at_exit() -> None:
    """One that runs in a daemon thread, and one that the main thread has stopped and not closed."""
    finished = run_script(
        SETUP
        + """
    owner = Owner()
    async def register(name):
        syncline.finalize(owner, clean, name)

    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, name="runs", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(register("running"), running).result()
    idle = asyncio.new_event_loop()
    idle.run_until_complete(register("idle"))
    """
    )
    assert sorted(finished.lines) == ["idle MainThread", "running runs"], finished.err
    assert finished.status == 0


def test_a_cleanup_that_never_ends_does_not_keep_the_process() -> None:
    """After some seconds the exit goes on; the loop's own cleanup time bounds the rest."""
    finished = run_script(
        SETUP
        + """
    from syncline import _finalizing
    _finalizing._PATIENCE = 0.2
    bridge = syncline.Bridge(cleanup_timeout=0.2)
    owner = Owner()
    bridge.finalize(owner, asyncio.Event().wait)
    print("main ends", flush=True)
    """
    )
    assert (finished.status, finished.lines) == (0, ["main ends"]), finished.err
    assert finished.seconds < 10


def test_an_object_that_goes_in_the_middle_of_the_exit_harms_nothing() -> None:
    """Module globals and cycles are torn down after the loops have ended."""
    finished = run_script(
        SETUP
        + """
    owner = Owner()
    owner.me = owner
    finalizer = syncline.finalize(owner, clean, "once")
    class Late:
        def __del__(self):
            self.owner = None
            gc.collect()
    late = Late()
    late.owner = owner
    late.me = late
    del owner
    """
    )
    assert finished.lines == ["once syncline"], finished.err
    finished.assert_clean()


def test_a_forked_child_does_not_do_its_parents_cleanups() -> None:
    """Neither when it drops the objects nor at its exit; its own it does, and the parent's loop isn't disturbed."""
    finished = run_script(
        SETUP
        + """
    bridge = syncline.Bridge(name="own")
    owner, other = Owner(), Owner()
    first = bridge.finalize(owner, clean, "parent")
    second = syncline.finalize(other, clean, "parent, too")
    child = os.fork()
    if child == 0:
        assert not first.alive and first() is None and first.detach() is None
        del owner
        gc.collect()
        mine = Owner()
        syncline.finalize(mine, clean, "child")
        left = Owner()
        syncline.finalize(left, clean, "child's exit")
        del mine
        time.sleep(0.1)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert first.alive and second.alive
    del owner
    time.sleep(0.1)
    """,
        flags=("-W", "ignore::DeprecationWarning"),  # of forks where threads are
    )
    assert finished.lines == [
        "child syncline",
        "child's exit syncline",
        "parent own",
        "parent, too syncline",
    ], finished.err
    finished.assert_clean()


def test_fork_in_a_running_loop_leaves_its_cleanups_to_the_parent() -> None:
    """The child of an asyncio program ends without them."""
    finished = run_script(
        SETUP
        + """
    async def main():
        owner = Owner()
        syncline.finalize(owner, clean, "parent")
        child = os.fork()
        if child == 0:
            del owner
            gc.collect()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        del owner
        await asyncio.sleep(0.1)
    asyncio.run(main())
    """
    )
    assert finished.lines == ["parent MainThread"], finished.err


def test_a_signal_handlers_exception_is_not_lost_while_an_object_goes() -> None:
    """It is raised in the code that dropped the object, and the cleanup is done. Signals come at random moments."""
    finished = run_script(
        SETUP
        + """
    class Came(Exception): pass
    count = handled = 0
    def handler(*_):
        global count
        count += 1
        raise Came
    signal.signal(signal.SIGALRM, handler)
    bridge = syncline.Bridge()
    done = []
    async def note():
        done.append(1)
    made = 0
    def provoke():
        owner = Owner()
        bridge.finalize(owner, note)
        before = count
        signal.setitimer(signal.ITIMER_REAL, 0.000002 * (made % 20 + 1))
        del owner
        while count == before:
            time.sleep(0)  # another thread may have got the signal: then Python looks only when the lock changes hands
        for _ in range(1000): pass  # where it is raised that was kept
    end = time.monotonic() + 3
    while time.monotonic() < end:
        made += 1
        try:
            provoke()
        except Came:
            handled += 1
    while len(done) < made and time.monotonic() < end + 5:
        time.sleep(0.01)
    print(count > 50, count == handled, len(done) == made, count, handled, len(done), made)
    """,
        limit=40,
    )
    assert finished.out.startswith("True True True"), (finished.out, finished.err)
    assert finished.err == ""


def test_finalize_costs_the_import_nothing() -> None:
    """`import syncline` loads no asyncio, and registers nothing for it."""
    finished = run_script("""
        import sys, syncline
        print("asyncio" in sys.modules, "syncline._finalizing" in sys.modules)
    """)
    assert finished.lines == ["False False"]
