"""`python -m syncline twin`: what it writes, how it checks, and what it says to mistakes."""

from __future__ import annotations

import ast
import enum
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recipe_code
from syncline._commands import main
from written import has, write

__all__ = ["write"]

TESTS = Path(__file__).parent
SDK = [
    "sdk.models:Page=BlockingPage",
    "sdk.client:Session",
    "sdk.client:AsyncClient",
    "sdk.client:AsyncAdmin",
]


def test_the_twins_of_the_sdk_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """The same input gives the same file, byte by byte."""
    arguments = ["twin", *SDK, "--line-length=110", "-o", str(TESTS / "sdk" / "blocking.py"), "--check"]
    assert main(arguments) == 0, capsys.readouterr().out


def test_a_file_that_is_up_to_date_is_not_touched(tmp_path: Path) -> None:
    """Its time of change stays."""
    output = tmp_path / "twin.py"
    main(["twin", "sdk.client:Session", "-o", str(output)])
    os.utime(output, (1, 1))
    main(["twin", "sdk.client:Session", "-o", str(output)])
    assert output.stat().st_mtime == 1


def test_a_check_says_what_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a difference, the command that writes it again, and status 1; nothing is written."""
    output = tmp_path / "twin.py"
    check = ["twin", "sdk.client:Session", "-o", str(output), "--check"]
    assert main(check) == 1
    assert f"{output} is not there; write it: python -m syncline twin" in capsys.readouterr().err
    assert main(check[:-1]) == 0
    assert main(check) == 0
    before = output.read_text().replace("force", "forced")
    output.write_text(before)
    assert main(check) == 1
    said = capsys.readouterr()
    has(said.out, "-    def commit(self, *, forced: bool", "+    def commit(self, *, force: bool")
    assert f"out of date; write it again: python -m syncline twin sdk.client:Session -o {output}" in said.err
    assert output.read_text() == before


def test_a_check_imports_neither_tools_nor_what_it_does_not_need(tmp_path: Path) -> None:
    """In a process of its own, beside what the SDK imports."""
    output = tmp_path / "twin.py"
    main(["twin", "sdk.client:Session", "-o", str(output)])
    script = (
        "import sys, sdk.client; before = set(sys.modules)\n"
        "from syncline._commands import main\n"
        f"assert main(['twin', 'sdk.client:Session', '-o', {str(output)!r}, '--check']) == 0\n"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) <= {"syncline", "greenlet"}


def test_without_a_file_the_text_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Its first lines say how it was made."""
    assert main(["twin", "sdk.client:Session"]) == 0
    has(
        capsys.readouterr().out,
        "A blocking twin of `sdk.client.Session`",
        "    python -m syncline twin sdk.client:Session\n",
        "class BlockingSession(Twin[Session], of=Session):",
    )


def test_the_module_is_a_program(tmp_path: Path) -> None:
    """`python -m syncline`, with a class of the folder that it is called in."""
    (tmp_path / "source.py").write_text(
        "class AsyncClient:\n    async def get(self) -> int:\n        return 1\n"
    )
    command = [sys.executable, "-m", "syncline", "twin", "source:AsyncClient", "-o", "twin.py"]
    subprocess.run(command, cwd=tmp_path, check=True)
    used = subprocess.run(
        [sys.executable, "-c", "import twin; print(twin.Client().get())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (used.stdout, used.stderr) == ("1\n", "")


MISTAKES = {
    "sdk.client": "'sdk.client' is not MODULE:CLASS",
    "sdk.nothing:Client": "there is no module 'sdk.nothing'",
    "nothing.at.all:Client": "there is no module 'nothing'",
    "sdk.client:AsyncClint": "has no class 'AsyncClint'; did you mean 'AsyncClient'?",
    "sdk.client:P": "is not a class: it is of type ParamSpec",
    "sdk.models:Usage": "has no async methods: sync code can use it as it is",
    "_asyncio:Future": "can't be read: it is not written in Python",
    "sdk.client:AsyncClient=not-a-name": "'not-a-name' can't be the name of a class",
    "test_twin_command:Kind": "is an enum, whose members are there before anybody makes one",
    "test_twin_command:Outer.made_here": "is defined inside of 'make'; move it to the top of its module",
    "test_twin_command:Executed": "it has no source file that can be read",
    "test_twin_command:made_here": "is defined inside of 'make'",
}


def make() -> type:
    class Local:
        async def get(self) -> None: ...

    return Local


made_here = make()


class Kind(enum.Enum):
    ONE = 1

    async def get(self) -> None: ...


class Outer:
    made_here = made_here


_namespace: dict[str, Any] = {"__name__": "nowhere"}
exec("class Executed:\n    async def get(self): ...", _namespace)
Executed = _namespace["Executed"]


@pytest.mark.parametrize("target", MISTAKES)
def test_a_class_that_can_get_no_twin_is_explained(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with status 2."""
    assert main(["twin", target]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("syncline twin: ")
    assert MISTAKES[target] in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sdk.client:Session", "--check"], "say which one with -o FILE"),
        (["sdk.client:Session", "-o", "."], ". is a folder; -o takes a file in it"),
        (["sdk.client:Session", "-o", "none/twin.py"], "there is no folder none; make it first"),
        (["sdk.client:Session", "-o", "twin.txt"], "to a file that ends in .py, not to twin.txt"),
        (["sdk.client:Session", "--stub", "-o", "twin.py"], "a stub is written to a file that ends in .pyi"),
        (["sdk.client:Session", "sdk.client:Session"], "a class is given twice"),
        (["sdk.client:Session=C", "sdk.client:AsyncClient=C"], "would both get the twin 'C'; name one: "),
    ],
)
def test_options_that_do_not_fit_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the same way."""
    assert main(["twin", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_module_that_fails_says_so(write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its own error, and that of a module that it doesn't find."""
    (tmp_path / "fails.py").write_text("1 / 0")
    (tmp_path / "lacks.py").write_text("import not_there")
    assert [main(["twin", "fails:C"]), main(["twin", "lacks:C"])] == [2, 2]
    said = capsys.readouterr().err
    assert "importing 'fails' failed: ZeroDivisionError: division by zero" in said
    assert "importing 'lacks' failed: No module named 'not_there'" in said


def test_unknown_commands_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With status 2, and a list of those that there are."""
    with pytest.raises(SystemExit, match="2"):
        main(["twins"])
    assert "twin" in capsys.readouterr().err


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    """Its async class, and the twin of that, which works."""
    page = recipe_code.files("twins-generated.md", "An example")
    (tmp_path / "aclient.py").write_text(page["aclient.py"])
    done = recipe_code.run(tmp_path, "-m", "syncline", "twin", "aclient:AsyncClient", "-o", "client.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "client.py").read_text() == page["client.py"]
    use = "import client\nwith client.Client('url') as c: print(c.price('tea'), list(c.items()))"
    assert recipe_code.run(tmp_path, "-c", use).stdout == "4.5 ['coffee', 'tea']\n"


def test_objects_live_on_the_bridge_that_is_named(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """In each class; what is no bridge is refused."""
    source = """\
        import syncline

        bridge = syncline.Bridge(name="shop")
        other = 1

        class AsyncClient:
            async def get(self) -> int:
                return 1
    """
    text = write(source, "AsyncClient", "--bridge=test_objects_live_on_the_bridge_that_is_named:bridge")
    has(
        text,
        "from source import AsyncClient, bridge",
        "class Client(Twin[AsyncClient], of=AsyncClient, bridge=bridge):",
    )
    where = "test_objects_live_on_the_bridge_that_is_named"
    assert main(["twin", f"{where}:AsyncClient", f"--bridge={where}:other"]) == 2
    assert main(["twin", f"{where}:AsyncClient", "--bridge=bridge"]) == 2
    said = capsys.readouterr().err
    assert "other is no bridge; make one there: other = syncline.Bridge(name='other')" in said
    assert "--bridge takes MODULE:NAME" in said


def test_imports_are_in_the_order_of_a_formatter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules beside the file are the project's own, if it lies in the project's folder or in `src` there; names with
    another name here stand in the place of their own."""
    project = tmp_path / "project"
    for folder in (project, project / "src", project / "scripts"):
        folder.mkdir()
        (folder / "ordered.py").write_text("class Callable: ...\n")
        (folder / "ordered_client.py").write_text(
            "from collections.abc import Awaitable, Callable\n"
            "from collections.abc import Callable as Function, Set\n"
            "import ordered\n"
            "class AsyncClient:\n"
            "    async def get(self, one: Function[[], Set[int]], two: ordered.Callable) -> None: ...\n"
        )
    (project / "pyproject.toml").touch()
    texts: dict[str, str] = {}
    for folder in (project, project / "src", project / "scripts"):
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "ordered_client", raising=False)
        monkeypatch.delitem(sys.modules, "ordered", raising=False)
        assert main(["twin", "ordered_client:AsyncClient", "-o", "twin.py"]) == 0
        texts[folder.name] = Path("twin.py").read_text()
    own = "from syncline.twins import Twin\n\nimport ordered\nfrom ordered_client import AsyncClient\n"
    has(
        texts["project"],
        "from collections.abc import Callable as Function\nfrom collections.abc import Set\n",
        own,
    )
    assert texts["src"] == texts["project"]
    has(
        texts["scripts"],
        "import ordered\nfrom ordered_client import AsyncClient\nfrom syncline.twins import Twin\n",
    )


def test_the_first_line_fits(tmp_path: Path) -> None:
    """With the names of the classes, if they do; the command below it has them in any case."""
    outputs = [tmp_path / name for name in ("one.py", "many.py")]
    for output, targets in zip(outputs, (SDK[1:2], SDK), strict=True):
        main(["twin", *targets, "-o", str(output)])
    first, second = (output.read_text().splitlines()[0] for output in outputs)
    assert first == '"""A blocking twin of `sdk.client.Session`.'
    assert second == 'r"""Blocking twins, written by syncline.'


def test_a_package_may_import_the_twin_that_is_to_be_written(tmp_path: Path) -> None:
    """Before the file is there, and while it is that of a class that has another name now; other errors are told."""
    package = tmp_path / "shop"
    package.mkdir()
    init, source = package / "__init__.py", package / "_client.py"
    init.write_text("from ._client import AsyncClient\nfrom .client import Client\n")
    source.write_text("class AsyncClient:\n    async def get(self) -> int:\n        return 1\n")
    write_it = ["-m", "syncline", "twin", "shop._client:AsyncClient=Client", "-o", "shop/client.py"]
    assert recipe_code.run(tmp_path, *write_it).stderr == ""
    assert recipe_code.run(tmp_path, *write_it, "--check").returncode == 0
    assert recipe_code.run(tmp_path, "-c", "import shop; print(shop.Client().get())").stdout == "1\n"
    for file in (init, source):
        file.write_text(file.read_text().replace("AsyncClient", "AsyncOther"))
    write_it[3] = "shop._client:AsyncOther=Client"
    checked = recipe_code.run(tmp_path, *write_it, "--check")
    assert checked.returncode == 1
    assert "+class Client(Twin[AsyncOther], of=AsyncOther):" in checked.stdout
    assert recipe_code.run(tmp_path, *write_it).stderr == ""
    assert recipe_code.run(tmp_path, "-c", "import shop; print(shop.Client().get())").stdout == "1\n"
    source.write_text("import nothing_like_that\n")
    failed = recipe_code.run(tmp_path, *write_it)
    assert failed.returncode == 2
    assert (
        failed.stderr
        == "syncline twin: importing 'shop._client' failed: No module named 'nothing_like_that'\n"
    )


def test_what_stays_async_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The results whose classes were not given; not by a check, and not where nothing does."""
    output = tmp_path / "twin.py"
    write_it = ["twin", "sdk.records:AsyncBase", "-o", str(output)]
    assert main(write_it) == 0
    assert capsys.readouterr().err == (
        "syncline twin: these give async objects that have no twin; name their classes, too, if sync code is to use "
        "them:\n    Base.another_reader: sdk.records:AsyncReader\n"
    )
    assert main([*write_it, "--check"]) == 0
    write_it.insert(1, "sdk.records:AsyncReader")
    assert main(write_it) == 0
    assert capsys.readouterr().err == ""
