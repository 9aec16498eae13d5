"""`syncline.compat.nest_asyncio` in whole programs: what is patched and put back, Ctrl-C, exit, servers, notebooks."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from asyncio import runners
from typing import Any

import pytest
import uvloop

from child import Child, run_script
from nest_code import here, turns, unapplied
from syncline.compat import nest_asyncio

__all__ = ["unapplied"]

pytestmark = pytest.mark.usefixtures("unapplied")


def patched() -> dict[str, Any]:
    """What is there of asyncio and uvloop."""
    classes = [asyncio.BaseEventLoop, asyncio.SelectorEventLoop, uvloop.Loop, asyncio.Runner]
    found: dict[str, Any] = {
        f"{each.__name__}.{name}": value for each in classes for name, value in vars(each).items()
    }
    for module in (asyncio, asyncio.events, asyncio.tasks, runners, asyncio.base_events):
        found |= {f"{module.__name__}.{name}": value for name, value in vars(module).items()}
    found["code"] = runners.run.__code__, runners.run.__kwdefaults__
    found["policy"] = type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None
    return found


def test_the_import_patches_nothing_and_unapply_puts_everything_back() -> None:
    """apply() replaces seven methods of two kinds of loops and of Runner, and the code of asyncio.run."""
    before = patched()
    nest_asyncio.apply()
    nest_asyncio.apply()
    during = patched()
    changed = {name for name in before if before[name] is not during[name] and before[name] != during[name]}
    on_loops = ("create_task", "run_until_complete", "run_forever", "stop")
    new = {f"Loop.{name}" for name in on_loops}
    assert during.keys() - before.keys() == new
    assert changed == {
        *(f"BaseEventLoop.{name}" for name in on_loops),
        "Runner.run",
        "Runner.get_loop",
        "Runner.__enter__",
        "code",
    }
    nest_asyncio.unapply()
    nest_asyncio.unapply()
    assert patched() == before
    assert list(inspect.signature(asyncio.run).parameters)[:2] == ["main", "debug"]

    async def main() -> None:
        coroutine = turns()
        with pytest.raises(RuntimeError, match="running event loop"):
            asyncio.run(coroutine)
        coroutine.close()

    asyncio.run(main())


def test_who_imported_run_by_its_name_has_it_nested() -> None:
    """Also before apply(): asyncio.run stays the same function."""
    run = asyncio.run
    nest_asyncio.apply()
    assert run is asyncio.run

    async def main() -> int:
        return run(turns(2))

    assert run(main()) == 2


def test_what_was_patched_on_top_stays() -> None:
    """unapply() leaves a method alone that somebody else has replaced since, which then calls asyncio's own."""
    nest_asyncio.apply()
    ours, calls = asyncio.BaseEventLoop.run_until_complete, list[str]()

    def theirs(self: Any, future: Any) -> Any:
        calls.append("theirs")
        return ours(self, future)

    asyncio.BaseEventLoop.run_until_complete = theirs  # type: ignore[method-assign]
    nest_asyncio.unapply()
    try:
        assert asyncio.run(turns(2)) == 2
        assert calls
    finally:
        asyncio.BaseEventLoop.run_until_complete = ours  # type: ignore[method-assign]
        asyncio.BaseEventLoop.run_until_complete = inspect.unwrap(ours)  # type: ignore[method-assign]


def test_calls_that_wait_go_on_after_unapply() -> None:
    """Those of tasks that switch, and those whose loop is turned."""
    nest_asyncio.apply()

    async def main() -> list[int]:
        async def calls(count: int) -> int:
            return asyncio.run(turns(count))

        tasks = [asyncio.create_task(calls(5)), asyncio.Task(calls(6))]
        await turns(3)
        nest_asyncio.unapply()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [5, 6]


def test_a_loop_that_cant_be_patched_is_refused() -> None:
    """ValueError, as of nest_asyncio; a loop class of one's own is patched when it is named."""

    class Wrapper(asyncio.AbstractEventLoop):
        pass

    with pytest.raises(ValueError, match="Can't patch loop"):
        nest_asyncio.apply(object())  # type: ignore[arg-type]
    nest_asyncio.apply(Wrapper())
    assert "run_until_complete" in vars(Wrapper)
    nest_asyncio.unapply()
    assert "run_until_complete" not in vars(Wrapper)


def test_run_close_loop_false_keeps_the_loop() -> None:
    """As with nest_asyncio: asyncio.run uses the thread's current loop, or leaves its new one open."""

    def body() -> None:
        nest_asyncio.apply(run_close_loop=False)

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        first = asyncio.run(loop())
        assert asyncio.run(loop()) is first
        assert not first.is_closed()
        first.close()
        own = uvloop.new_event_loop()
        asyncio.set_event_loop(own)
        assert asyncio.run(loop()) is own
        nest_asyncio.apply()
        assert asyncio.run(loop()) is not own
        own.close()

    errors: list[BaseException] = []

    def run() -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors, errors


@pytest.mark.parametrize("peer", ["nest_asyncio2"])
def test_a_peer_that_has_patched_asyncio_before_is_told_of(peer: str) -> None:
    """A warning, or RuntimeError if that is asked for; ours works all the same."""
    finished = run_script(f"""
        import asyncio, warnings
        import {peer}
        {peer}.apply(asyncio.new_event_loop())
        from syncline.compat import nest_asyncio
        try:
            nest_asyncio.apply(error_on_mispatched=True)
        except RuntimeError as error:
            print("sys.modules" in str(error))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nest_asyncio.apply()
        print(caught[0].category.__name__, caught[0].filename == __file__)
        async def inner():
            await asyncio.sleep(0)
            return asyncio.current_task()
        async def main():
            me = asyncio.current_task()
            return asyncio.run(inner()) is not me and asyncio.current_task() is me
        print(asyncio.run(main()))
    """)
    assert finished.lines == ["True", "RuntimeWarning True", "True"], finished.err


def test_a_module_that_imports_nest_asyncio_gets_ours_where_it_stands_in_its_place() -> None:
    """sys.modules["nest_asyncio"], as the documentation says."""
    finished = run_script("""
        import sys
        from syncline.compat import nest_asyncio as ours
        sys.modules["nest_asyncio"] = ours
        import asyncio, nest_asyncio
        nest_asyncio.apply()
        async def main():
            return asyncio.run(asyncio.sleep(0, "nested"))
        print(asyncio.run(main()))
    """)
    assert finished.lines == ["nested"]
    finished.assert_clean()


CALLS = """
    import asyncio, sys
    from syncline.compat import nest_asyncio
    if {early}:
        nest_asyncio.apply()

    async def forever():
        try:
            print("waits", flush=True)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            print("cleaned up", flush=True)

    def sync_code():
        try:
            asyncio.run(forever())
        finally:
            print("unwound", flush=True)

    async def main():
        nest_asyncio.apply()
        sync_code()

    {run}
"""
RUNS = {"asyncio": "asyncio.run(main())", "uvloop": "import uvloop; uvloop.run(main())"}


@pytest.mark.parametrize(("host", "early"), [("asyncio", True), ("uvloop", True), ("asyncio", False)])
def test_ctrl_c_cancels_the_call_and_ends_the_program(host: str, early: bool) -> None:
    """As asyncio.run does it: cleanup runs in the call and around it, then KeyboardInterrupt."""
    with Child(CALLS.format(early=early, run=RUNS[host])) as child:
        child.expect("waits")
        child.signal()
        finished = child.finish()
    assert finished.lines == ["cleaned up", "unwound"], finished.err
    assert finished.err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize(("host", "early"), [("asyncio", True), ("uvloop", True), ("asyncio", False)])
def test_sys_exit_in_a_nested_run_ends_the_program(host: str, early: bool) -> None:
    """It unwinds the sync code around the call first."""
    script = CALLS.replace("await asyncio.Event().wait()", "sys.exit(3)").format(early=early, run=RUNS[host])
    finished = run_script(script)
    assert (finished.status, finished.lines) == (3, ["waits", "cleaned up", "unwound"]), finished.err


def test_an_exit_in_the_middle_of_waiting_calls_is_clean() -> None:
    """The interpreter ends although stacks wait on a loop that nobody runs any more."""
    finished = run_script("""
        import asyncio
        from syncline.compat import nest_asyncio
        nest_asyncio.apply()
        loop = asyncio.new_event_loop()
        async def calls():
            asyncio.run(asyncio.Event().wait())
        tasks = [loop.create_task(calls())]
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        print("ends")
    """)
    assert (finished.status, finished.lines) == (0, ["ends"]), finished.err


AIOHTTP = """
    import asyncio, aiohttp
    from aiohttp import web
    from syncline.compat import nest_asyncio
    nest_asyncio.apply()

    gate = asyncio.Event()

    async def opened():
        await gate.wait()
        return "opened"

    async def slow(request):
        return web.Response(text=asyncio.run(opened()))

    async def open_it(request):
        gate.set()
        return web.Response(text=asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, "done")))

    async def main():
        app = web.Application()
        app.router.add_get("/slow", slow)
        app.router.add_get("/open", open_it)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async def get(path):
                async with session.get(path) as response:
                    return await response.text()
            waiting = [asyncio.create_task(get("/slow")) for _ in range(5)]
            await asyncio.sleep(0.2)
            print(await get("/open"), *await asyncio.gather(*waiting))
        await runner.cleanup()

    asyncio.run(main())
"""


def test_handlers_of_aiohttps_server_make_nested_calls() -> None:
    """Its tasks are made past the loop; five of them wait while another one is served (torture 14)."""
    finished = run_script(AIOHTTP)
    assert finished.lines == ["done" + " opened" * 5], finished.err
    finished.assert_clean()


def test_endpoints_under_uvicorn_make_nested_calls() -> None:
    """On uvloop, which uvicorn makes after apply(); five of them wait while another one is served."""
    finished = run_script("""
        import asyncio, httpx, threading, uvicorn
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from syncline.compat import nest_asyncio
        nest_asyncio.apply()

        gates = []

        async def opened():
            gates.append(asyncio.Event())
            await gates[-1].wait()
            return type(asyncio.get_running_loop()).__module__

        async def slow(request):
            return PlainTextResponse(asyncio.run(opened()))

        async def open_them(request):
            count = len(gates)
            if count == 5:
                for gate in gates:
                    gate.set()
            return PlainTextResponse(str(count))

        app = Starlette(routes=[Route("/slow", slow), Route("/open", open_them)])
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", loop="uvloop"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]

        async def main():
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                waiting = [asyncio.create_task(client.get("/slow")) for _ in range(5)]
                while (await client.get("/open")).text != "5":
                    await asyncio.sleep(0.01)
                print(*{(await each).text for each in waiting})

        asyncio.run(main())
        server.should_exit = True
        thread.join()
    """)
    assert finished.lines == ["uvloop"], finished.err


def test_cells_of_a_notebook_make_nested_calls() -> None:
    """In the cell that calls apply(), in later ones, and interrupted; after unapply() they are refused again. Tried
    with ipykernel 6.31, which runs all cells in one task that was there before, and 7.4."""
    ipykernel = pytest.importorskip("ipykernel")
    interrupted = "CancelledError" if ipykernel.version_info[0] >= 7 else "KeyboardInterrupt"
    finished = subprocess.run(
        [sys.executable, "-c", KERNEL], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.stdout.splitlines() == [
        "1",
        "2",
        interrupted,
        "3",
        interrupted,
        "4",
        "RuntimeError",
    ], finished.stderr


KERNEL = """
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel()

def run(code):
    def show(message):
        content = message["content"]
        if message["msg_type"] == "error":
            print(content["ename"])
        elif message["msg_type"] == "stream" and content["name"] == "stdout":
            if content["text"] == "waits\\n":
                manager.interrupt_kernel()
            else:
                print(content["text"], end="")
    client.execute_interactive(code, output_hook=show, timeout=30)

run('''
import asyncio
from syncline.compat import nest_asyncio

async def value(number):
    await asyncio.sleep(0.01)
    return number

async def waits():
    print("waits", flush=True)
    await asyncio.sleep(30)

nest_asyncio.apply()
print(asyncio.run(value(1)))
''')
run("print(asyncio.get_event_loop().run_until_complete(value(2)))")
run("asyncio.run(waits())")
run("print(asyncio.run(value(3)))")
run("nest_asyncio.unapply(); nest_asyncio.apply(); asyncio.run(waits())")
run("print(asyncio.run(value(4)))")
run("nest_asyncio.unapply(); asyncio.run(value(5))")
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


def test_the_place_of_a_call_is_that_of_its_caller() -> None:
    """Thread and loop are the same in a chain of all three functions."""
    nest_asyncio.apply()

    async def third() -> object:
        await turns()
        return here()

    async def second() -> object:
        with asyncio.Runner() as runner:
            return runner.run(third())

    async def first() -> object:
        return asyncio.get_running_loop().run_until_complete(second())

    async def main() -> bool:
        return asyncio.run(first()) == here()

    assert asyncio.run(main())
