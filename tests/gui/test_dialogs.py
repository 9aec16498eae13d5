"""Real dialogs of Qt and Tk: code that runs in one calls a bridge, and the dialog's own loop is still there afterwards.

Nothing is drawn on a screen: Qt draws nowhere, and Tk on a display of Xvfb's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from child import run_script

QT = """\
    import asyncio
    import syncline
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QDialog

    app = QApplication([])

    class Dialog:
        def __init__(self):
            self.window = QDialog()

        def close(self):
            self.window.accept()

        def run(self, inside):
            QTimer.singleShot(0, inside)
            assert self.window.exec() == QDialog.DialogCode.Accepted

    def after(function):
        QTimer.singleShot(0, function)

    def run_program():
        app.exec()

    def end_program():
        app.quit()
"""

TK = """\
    import asyncio
    import syncline
    import tkinter

    root = tkinter.Tk()

    class Dialog:
        def __init__(self):
            self.window = tkinter.Toplevel(root)

        def close(self):
            self.window.destroy()

        def run(self, inside):
            root.after(1, inside)
            root.wait_window(self.window)

    def after(function):
        root.after(1, function)

    def run_program():
        root.mainloop()

    def end_program():
        root.destroy()
"""

PROGRAM = """
    async def work(dialog=None):
        await asyncio.sleep(0.001)
        # The dialog's loop, which is below this step, is told.
        if dialog is not None:
            dialog.close()

    bridge = syncline.Bridge(scope="caller")
    bridge.run_sync(work)
    opened = []

    def open_dialog(level):
        dialog = Dialog()
        opened.append(level)

        def inside():
            bridge.run_sync(work)
            if level < 5:
                open_dialog(level + 1)
            bridge.run_sync(work, dialog)

        dialog.run(inside)

    def begin():
        open_dialog(1)
        bridge.run_sync(work)
        end_program()

    after(begin)
    run_program()
    bridge.close()
    print(opened)
"""

INSTALLED = """
    import qasync

    async def work(dialog):
        await asyncio.sleep(0.001)
        dialog.close()

    def sync_code(dialog):
        syncline.run_sync(work, dialog)

    async def main():
        syncline.install()
        loop = asyncio.get_running_loop()
        opened = []
        go_on = asyncio.Event()

        async def background():
            await go_on.wait()
            for _ in range(5):
                syncline.run_sync(asyncio.sleep, 0)
            return "went on"

        async def in_dialog(level, dialog):
            opened.append(level)
            go_on.set()
            await asyncio.sleep(0.001)
            if level < 5:
                await show(level + 1)
            sync_code(dialog)

        async def show(level):
            dialog = Dialog()
            ended = loop.create_future()

            def run():
                tasks = []
                dialog.run(lambda: tasks.append(loop.create_task(in_dialog(level, dialog))))
                ended.set_result(tasks[0])

            after(run)
            await (await ended)

        tasks = [asyncio.create_task(background()) for _ in range(3)]
        await asyncio.sleep(0.001)
        await show(1)
        assert await asyncio.gather(*tasks) == ["went on"] * 3
        print(opened)

    loop = qasync.QEventLoop(app)
    asyncio.set_event_loop(loop)
    with loop:
        loop.run_until_complete(main())
"""


@pytest.fixture
def display() -> Iterator[str]:
    """A display that nobody sees."""
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("needs Xvfb")
    reads, writes = os.pipe()
    with subprocess.Popen(
        [server, "-displayfd", str(writes), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[writes],
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(writes)
        try:
            with os.fdopen(reads) as answer:
                yield f":{answer.readline().strip()}"
        finally:
            process.terminate()


def run_qt(program: str) -> list[str]:
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)
    finished = run_script(QT + program, env={"QT_QPA_PLATFORM": "offscreen"})
    assert finished.status == 0, finished.err
    return finished.lines


def test_calls_in_dialogs_of_qt() -> None:
    """The bridge was used before any dialog was open; then dialogs open dialogs, and coroutines close them."""
    assert run_qt(PROGRAM) == ["[1, 2, 3, 4, 5]"]


def test_an_installed_loop_of_qt_goes_on_in_dialogs() -> None:
    """Tasks, old and new ones, make steps while dialogs of dialogs are open, and close them from nested calls."""
    pytest.importorskip("qasync")
    assert run_qt(INSTALLED) == ["[1, 2, 3, 4, 5]"]


def test_calls_in_dialogs_of_tk(display: str) -> None:
    """As with Qt: `wait_window` returns when a coroutine has destroyed the window."""
    pytest.importorskip("tkinter", exc_type=ImportError)
    finished = run_script(TK + PROGRAM, env={"DISPLAY": display})
    assert finished.status == 0, finished.err
    assert finished.lines == ["[1, 2, 3, 4, 5]"]
