"""docs/recipes.md: nested calls in place under uvicorn, in a Jupyter kernel and under pytest-asyncio, all real."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import httpx
import jupyter_client
import pytest
import starlette.applications
import starlette.responses
import starlette.routing
import uvicorn

import syncline
from switching import Place

RECIPES = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the recipes that Sybil doesn't run."""
    return re.findall(rf"^```{language}\n(.*?)^```$", RECIPES, re.MULTILINE | re.DOTALL)


# FastAPI and Starlette


@contextlib.contextmanager
def served(app: Any, loop: str) -> Iterator[httpx.Client]:
    """A client of the app, which uvicorn serves on a socket of its own, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, loop=loop, log_level="warning", lifespan="on")  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn")
        thread.start()
        try:
            # Waits in the backlog until the server accepts.
            with httpx.Client(
                base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


class Endpoints:
    """What both frameworks serve; `/waits` waits for `/opens`, in a nested call below sync code."""

    def __init__(self, bridge: syncline.Bridge) -> None:
        self.place = Place("server", bridge)
        self.waiting = threading.Event()
        self.open: Callable[[], object] = lambda: None

    def sync_code(self) -> str:
        return self.place.call(self.wait)

    async def wait(self) -> str:
        opened = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.open = lambda: loop.call_soon_threadsafe(opened.set)
        self.waiting.set()
        await opened.wait()
        return threading.current_thread().name

    async def waits(self) -> str:
        return self.sync_code()

    def waits_in_a_worker(self) -> str:
        return self.place.bridge.run_sync(self.wait)

    async def opens(self) -> str:
        self.open()
        return "opened"

    @contextlib.asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        undo = syncline.install()
        yield
        undo()
        assert asyncio.get_running_loop().get_task_factory() is None

    def fastapi(self, opt_in: str) -> Any:
        app = fastapi.FastAPI(lifespan=self.lifespan if opt_in == "install" else None)
        app.get("/waits")(syncline.nestable(self.waits) if opt_in == "nestable" else self.waits)
        app.get("/worker")(self.waits_in_a_worker)
        app.get("/opens")(self.opens)
        return app

    def starlette(self, opt_in: str) -> Any:
        def route(path: str, endpoint: Any) -> starlette.routing.Route:
            if inspect.iscoroutinefunction(endpoint):

                async def answer(_: object) -> Any:
                    return starlette.responses.JSONResponse(await endpoint())
            else:

                def answer(_: object) -> Any:  # type: ignore[misc]
                    return starlette.responses.JSONResponse(endpoint())

            return starlette.routing.Route(path, answer)

        waits = syncline.nestable(self.waits) if opt_in == "nestable" else self.waits
        routes = [
            route("/waits", waits),
            route("/worker", self.waits_in_a_worker),
            route("/opens", self.opens),
        ]
        return starlette.applications.Starlette(
            routes=routes, lifespan=self.lifespan if opt_in == "install" else None
        )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
@pytest.mark.parametrize("opt_in", ["install", "nestable"])
def test_an_endpoint_awaits_in_place_and_other_requests_are_served(
    loop: str, framework: str, opt_in: str
) -> None:
    """Sync code below an async endpoint calls the bridge: same task, loop and thread (`Place.call` checks), no runner
    is made, and the call can only end because another request is served meanwhile."""
    with syncline.Bridge(name="ours", nested="switch", roams=True) as bridge, ThreadPoolExecutor() as pool:
        endpoints = Endpoints(bridge)
        with served(getattr(endpoints, framework)(opt_in), loop) as client:
            # Order forced: the first request waits in its nested call before the second one is sent.
            waiting = pool.submit(client.get, "/waits")
            assert endpoints.waiting.wait(20)
            assert client.get("/opens").json() == "opened"
            assert waiting.result(20).json() == "uvicorn"
        assert bridge.stats()["nested"] == 1
        assert bridge.stats()["runners"] == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_sync_endpoint_calls_from_its_worker_thread(loop: str) -> None:
    """The bridge's own loop runs it, and the server goes on serving: the call can't end otherwise."""
    with syncline.Bridge(name="ours") as bridge, ThreadPoolExecutor() as pool:
        endpoints = Endpoints(bridge)
        with served(endpoints.fastapi("install"), loop) as client:
            waiting = pool.submit(client.get, "/worker")
            assert endpoints.waiting.wait(20)
            assert client.get("/opens").json() == "opened"
            assert waiting.result(20).json() == "ours"


# Jupyter


class Kernel:
    """A real kernel, and what its cells print."""

    def __init__(self, manager: jupyter_client.KernelManager, client: Any) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str, on_output: Callable[[str], object] = lambda _: None) -> tuple[str, str]:
        """Runs a cell. Returns "ok" or the name of its error, and what it printed and returned."""
        texts: queue.SimpleQueue[str] = queue.SimpleQueue()

        def hear(message: Any) -> None:
            content = message["content"]
            if message["msg_type"] in ("stream", "execute_result"):
                text = content.get("text") or content["data"]["text/plain"]
                texts.put(text)
                on_output(text)

        reply = self.client.execute_interactive(code, timeout=40, output_hook=hear)["content"]
        printed = "".join(texts.get() for _ in range(texts.qsize()))
        return reply.get("ename", reply["status"]), printed


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel of this Python, with folders of its own."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    manager = jupyter_client.KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=40)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_the_recipe_for_notebooks_works(kernel: Kernel) -> None:
    """The cells of docs/recipes.md, one after the other."""
    found = [kernel.run(cell) for cell in blocks("py3")]
    assert found == [("ok", "'the value of a'"), ("ok", ""), ("ok", "")]


SETUP = """
import asyncio, syncline, threading
bridge = syncline.Bridge(nested="switch", roams=True)
loop, thread = asyncio.get_running_loop(), threading.get_ident()

async def wait_for(event):
    here = threading.get_ident(), asyncio.get_running_loop(), asyncio.current_task()
    await event.wait()
    assert here == (thread, loop, task)
    return bridge.stats()["runners"]

async def open(event):
    await asyncio.sleep(0)
    event.set()

async def waits():
    try:
        # Printed when this is suspended: an interrupt that comes before would hit code of the cell.
        asyncio.get_running_loop().call_soon(lambda: print("waits", flush=True))
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print(threading.get_ident() == thread, flush=True)
"""


@pytest.mark.parametrize("awaits", ["", "await asyncio.sleep(0)"])
def test_a_cell_awaits_in_place_and_the_notebooks_tasks_go_on(kernel: Kernel, awaits: str) -> None:
    """The nested call ends only because a task that the cell began sets the event; in cells with a top-level `await`,
    too."""
    assert kernel.run(SETUP) == ("ok", "")
    assert kernel.run("%load_ext syncline.jupyter") == ("ok", "")
    cell = f"""
{awaits}
task = asyncio.current_task()
event = asyncio.Event()
opener = loop.create_task(open(event))
bridge.run_sync(wait_for, event)
"""
    assert kernel.run(cell) == ("ok", "0")
    assert kernel.run(cell) == ("ok", "0")
    # Undone, the coroutine runs elsewhere, and is not in this thread.
    assert kernel.run("%unload_ext syncline.jupyter") == ("ok", "")
    elsewhere = "async def where(): return threading.get_ident() == thread\nbridge.run_sync(where)"
    assert kernel.run(elsewhere) == ("ok", "False")


@pytest.mark.parametrize(
    ("extension", "awaits", "error"),
    [
        (False, "", "KeyboardInterrupt"),
        (True, "", "CancelledError"),
        (True, "await asyncio.sleep(0)", "CancelledError"),
    ],
)
def test_an_interrupt_ends_a_cell_that_waits_and_the_kernel_goes_on(
    kernel: Kernel, extension: bool, awaits: str, error: str
) -> None:
    """The coroutine cleans up, awaiting; the cell ends with an error; the next ones work, and can be interrupted."""
    assert kernel.run(SETUP) == ("ok", "")
    if extension:
        assert kernel.run("%load_ext syncline.jupyter") == ("ok", "")

    def interrupt(text: str) -> None:
        if "waits" in text:
            kernel.manager.interrupt_kernel()

    for _ in range(2):
        found = kernel.run(f"{awaits}\nbridge.run_sync(waits)", interrupt)
        assert found == (error, f"waits\n{extension}\n")
        assert kernel.run("bridge.run_sync(asyncio.sleep, 0, 42)") == ("ok", "42")


def test_an_interrupt_of_a_cells_own_code_is_as_ever(kernel: Kernel) -> None:
    """With the extension: KeyboardInterrupt where the cell computes, also below a nested call and in a cell that runs
    a cell."""
    assert kernel.run(SETUP) == ("ok", "")
    assert kernel.run("%load_ext syncline.jupyter") == ("ok", "")
    computes = (
        "import time\ndef computes():\n    print('computes', flush=True)\n    while True: time.sleep(0.01)"
    )
    assert kernel.run(f"{computes}\nasync def below(): computes()") == ("ok", "")

    def interrupt(text: str) -> None:
        if "computes" in text:
            kernel.manager.interrupt_kernel()

    for cell in ("computes()", "bridge.run_sync(below)", "get_ipython().run_cell('1')\ncomputes()"):
        error, _ = kernel.run(cell, interrupt)
        assert error == "KeyboardInterrupt", cell
    assert kernel.run("bridge.run_sync(asyncio.sleep, 0, 42)") == ("ok", "42")


def test_the_extension_is_refused_where_no_loop_runs() -> None:
    """In terminal IPython, say: the error says that nothing is needed there."""
    from syncline import jupyter

    with pytest.raises(RuntimeError, match="needs no extension"):
        jupyter.load_ipython_extension(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "refused"), [((6, 31, 0), True), ((7, 0, 0), False), (None, False)])
def test_the_extension_is_refused_by_kernels_that_it_can_do_nothing_for(
    version: tuple[int, ...] | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to ipykernel 6 cells run in a task that was there before them; other kernels make a task for each."""
    from syncline import jupyter

    if version is None:
        monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    else:
        module: Any = types.ModuleType("ipykernel")
        module.version_info, module.__version__ = version, ".".join(map(str, version))
        monkeypatch.setitem(sys.modules, "ipykernel", module)

    class Events:
        def register(self, event: str, function: object) -> None: ...

        unregister = register

    async def cell() -> None:
        shell: Any = types.SimpleNamespace(events=Events())
        if refused:
            with pytest.raises(
                RuntimeError, match=r"needs ipykernel 7 or newer, and this kernel runs 6\.31\.0"
            ):
                jupyter.load_ipython_extension(shell)
            return
        jupyter.load_ipython_extension(shell)
        jupyter.unload_ipython_extension(shell)

    asyncio.run(cell())


# pytest-asyncio

IN_PLACE = """
import asyncio, threading

import pytest, syncline


async def where(event):
    event.set()
    await asyncio.sleep(0)
    return threading.get_ident(), asyncio.get_running_loop(), asyncio.current_task()


@pytest.mark.asyncio
async def test_in_place():
    threads = threading.active_count()
    reached, seen = asyncio.Event(), []

    async def other():
        await reached.wait()
        seen.append("other")

    task = asyncio.create_task(other())
    here = threading.get_ident(), asyncio.get_running_loop(), asyncio.current_task()
    assert syncline.run_sync(where, reached) == here
    assert threading.active_count() == threads
    await task
    assert seen == ["other"]


@pytest.mark.asyncio
async def test_what_a_fixture_waits_for():
    async def ends():
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        syncline.run_sync(ends)


def test_not_async():
    assert syncline.run_sync(asyncio.sleep, 0, 42) == 42
"""


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """A pytest of its own, without this project's configuration."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    return subprocess.run(
        [
            *command,
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            "--rootdir",
            str(folder),
            str(folder),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_recipe_for_pytest_asyncio_works(tmp_path: Path) -> None:
    """Its conftest.py with its test, and with tests that check thread, loop and task; without it, those fail."""
    conftest, test_it = blocks("py")
    (tmp_path / "test_in_place.py").write_text(IN_PLACE)
    without = run_pytest(tmp_path)
    assert "1 failed, 2 passed" in without.stdout, without.stdout + without.stderr
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_it.py").write_text(test_it)
    ended = run_pytest(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout
