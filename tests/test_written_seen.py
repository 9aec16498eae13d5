"""Written twins of what was seen in clients of others: in tests/sdk/seen.py, where type checkers look, and here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import syncline
from sdk import seen, seen_blocking
from syncline._commands import main
from written import Write, has, write

__all__ = ["write"]

SDK = Path(__file__).parent / "sdk"


def test_the_twins_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command writes them now."""
    monkeypatch.chdir(SDK)
    classes = ["sdk.seen:AsyncSeen", "sdk.seen:AsyncRows", "sdk.seen:Indices=BlockingIndices"]
    assert main(["twin", *classes, "--line-length=110", "-o", "seen_blocking.py", "--check"]) == 0


def test_what_async_code_awaits_or_enters_is_run_or_entered() -> None:
    """As `blocking` has it: awaited at once, it could not be entered any more, and nothing would be given back."""
    client = seen_blocking.Seen()
    with client.acquire() as rows:
        assert type(rows) is seen_blocking.Rows
        assert list(rows) == [(1,)]
    assert client.log == ["open", "close"]
    assert list(client.acquire().run(timeout=10)) == [(1,)]
    with client.prepared() as rows:
        assert list(rows) == [(2,)]
    with seen_blocking.Seen.connect("row") as found:
        assert list(found) == [("row",)]
    assert [list(rows) for rows in seen_blocking.Seen.numbers(3) or ()] == [[(3,)]]
    assert seen_blocking.Seen.numbers(None) is None
    made = syncline.Bridge().blocking(seen.AsyncSeen)()
    with made.acquire() as found:
        assert list(found) == [(1,)]
    assert made.log == client.log[:2]


def test_what_a_decorator_makes_of_an_async_generator_is_that() -> None:
    """By its overloads, too, which say what callers get; SQLAlchemy's `stream` is such a one."""
    client = seen_blocking.Seen()
    with client.stream("row") as rows:
        assert next(rows) == ("row",)
    assert list(client.stream(int).run()) == [(0,)]


def test_an_iterator_of_any_types_gives_itself() -> None:
    """Its type can't be said in another way that pyright takes for the same."""
    rows = seen_blocking.Rows(1, "a")
    assert iter(rows) is rows
    assert list(rows) == [(1, "a")]


def test_what_a_constructor_makes_is_of_its_class(capsys: pytest.CaptureFixture[str], write: Write) -> None:
    """So it comes as a twin, or the command names it; what is made of two classes is either of them."""
    client = seen_blocking.Seen()
    assert type(client.indices) is seen_blocking.BlockingIndices
    client.log.append("one")
    assert client.indices.count() == 1
    text = write("""\
        class Part:
            async def count(self) -> int: ...

        class Other(Part): ...

        class AsyncClient:
            def __init__(self) -> None:
                self.part = Part()
                self.either = Part()

            async def change(self) -> None:
                self.either = Other()
        """)
    has(text, "def part(self) -> Part:", "return self._aio.part", "def either(self) -> Any:")
    assert f"Client.part: {write.name}:Part" in capsys.readouterr().err


def test_a_constructor_with_a_type_variable_of_its_own(write: Write) -> None:
    """mypy can't hand that on to what makes the object; pymongo's collection has one."""
    has(write(Path(SDK / "seen.py").read_text(), "AsyncSeen"), "aio: Any = AsyncSeen", "self._make(aio, ")


def test_functions_that_say_they_are_of_another_module(write: Write) -> None:
    """elasticsearch's do; their source is where their code is."""
    text = write("""\
        from typing import TypeVar

        C = TypeVar("C", bound="AsyncClient")

        class AsyncClient:
            def options(self: C, *, limit: "int" = 0x10) -> C: ...

            async def close(self) -> None: ...

        AsyncClient.options.__module__ = AsyncClient.close.__module__ = "sdk"
        """)
    has(text, "def options(self, *, limit: int = 0x10) -> Self:")


def test_a_member_of_an_enum_that_is_called_value(write: Write) -> None:
    """To write it would be to write the property, for type checkers: the async class has its own default."""
    text = write("""\
        import enum

        class Default(enum.Enum):
            value = 0
            other = 1

        class AsyncClient:
            async def get(self, one: Default, other: Default) -> int: ...

        AsyncClient.get.__defaults__ = (Default.value, Default.other)
        AsyncClient.get.__code__ = AsyncClient.get.__code__.replace(co_firstlineno=1)
        """)
    has(text, "def get(self, one: Default = OMITTED, other: Default = Default.other)")


def test_a_generic_alias_of_which_nothing_more_is_said(write: Write) -> None:
    """Strict type checkers want to know of what it is."""
    text = write("""\
        from collections.abc import Callable
        from typing import TypeVar

        T = TypeVar("T")
        Handler = Callable[[T], None]

        class AsyncClient:
            async def handled(self, handler: Handler, other: Handler[int]) -> None: ...
        """)
    has(text, "def handled(self, handler: Handler[Any], other: Handler[int]) -> None:")


def test_a_name_comes_from_the_module_that_offers_it(write: Write) -> None:
    """Not from one that only uses it, where type checkers let nobody import it; one that passes it on offers it."""
    for name, text in {
        "sizes": "LIMIT = STEP = END = 2",
        "uses": "from {0}_sizes import LIMIT, STEP as STEP, END\n__all__ = ['END']",
    }.items():
        (write.folder / f"{write.name}_{name}.py").write_text(text.format(write.name))
    text = write(f"""\
        from {write.name}_uses import END, LIMIT, STEP

        class AsyncClient:
            async def get(self, limit: int = LIMIT, step: int = STEP, end: int = END) -> int: ...
        """)
    has(text, "from source_sizes import LIMIT\n", "from source_uses import END, STEP\n")


def test_a_type_variable_that_compiled_code_has_made(write: Write) -> None:
    """It does not know its module; SQLAlchemy's rows have one."""
    text = write("""\
        from typing import Generic, TypeVar

        T = TypeVar("T")
        T.__module__ = "_frozen_importlib"

        class AsyncClient(Generic[T]):
            async def get(self) -> T: ...
        """)
    has(
        text,
        "from source import AsyncClient, T\n",
        "class Client(Twin[AsyncClient[T]], Generic[T], of=AsyncClient):",
    )


def test_bytes_have_double_quotes(write: Write) -> None:
    """As formatters write them."""
    text = write("""\
        class AsyncClient:
            async def get(self, data: bytes = b'', end: bytes = b'"') -> bytes: ...
        """)
    has(text, """def get(self, data: bytes = b"", end: bytes = b'"') -> bytes:""")


def test_a_long_comprehension_has_a_line_for_each_part(write: Write) -> None:
    """As formatters lay it out."""
    text = write(
        """\
        class AsyncConnection:
            async def close(self) -> None: ...

        class AsyncEngine:
            async def close(self) -> None: ...

        class AsyncClient:
            @property
            def binds(self) -> dict[str, AsyncConnection | AsyncEngine]: ...
        """,
        "AsyncClient AsyncConnection AsyncEngine",
    )
    has(
        text,
        "        return {\n"
        "            key: Connection._of(item, self._bridge)\n"
        "            if isinstance(item, AsyncConnection)\n"
        "            else Engine._of(item, self._bridge)\n"
        "            for key, item in found.items()\n"
        "        }\n",
    )


def test_a_twin_that_has_the_name_of_its_library_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself makes the name one of the project's own, for formatters: at once, and not with the next run."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "widgets.py").write_text("class AsyncClient:\n    async def get(self) -> int: ...\n")
    monkeypatch.syspath_prepend(tmp_path / "libs")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    assert main(["twin", "widgets:AsyncClient", "-o", "widgets.py"]) == 0
    first = Path("widgets.py").read_text()
    assert main(["twin", "widgets:AsyncClient", "-o", "widgets.py"]) == 0
    assert Path("widgets.py").read_text() == first
    sys.modules.pop("widgets")


def test_a_stub_imports_no_module_that_it_does_not_use(write: Write) -> None:
    """Of overloads, defaults are left out, and pymongo's are in a module of a package that it uses otherwise."""
    source = """\
        import email
        import email.policy
        from typing import overload

        class AsyncClient:
            @overload
            async def get(self, a: "email.message.Message") -> int: ...
            @overload
            async def get(self, a: None) -> str: ...
            async def get(self, a: "email.message.Message | None" = None, b: object = email.policy.SMTP) -> object: ...
        """
    assert "import email.policy\n" in write(source)
    text = write(source, "AsyncClient", "--stub")
    assert "import email\n" in text
    assert "email.policy" not in text


@pytest.mark.parametrize("form", ["written", "made"])
def test_something_async_or_none(form: str, write: Write) -> None:
    """Only the object tells which it is, of methods of all kinds; a class may have nothing else that is async."""
    write("""\
        from __future__ import annotations

        from collections.abc import AsyncIterator, Awaitable
        from contextlib import AbstractAsyncContextManager, nullcontext

        class AsyncClient:
            async def _items(self) -> AsyncIterator[int]:
                yield 1

            async def _item(self) -> int:
                return 2

            def items(self, are_there: bool) -> AsyncIterator[int] | None:
                return self._items() if are_there else None

            @staticmethod
            def others(are_there: bool) -> AsyncIterator[int] | list[int]:
                return AsyncClient()._items() if are_there else []

            @classmethod
            def opened(cls, is_there: bool) -> None | AbstractAsyncContextManager[int]:
                return nullcontext(3) if is_there else None

            @classmethod
            def awaited(cls, is_there: bool) -> Awaitable[int] | None:
                return cls()._item() if is_there else None
        """)
    made = importlib.import_module(f"{write.name}_twin").Client if form == "written" else None
    client = (made or syncline.blocking(write.source().AsyncClient))()
    assert client.items(False) is client.opened(False) is client.awaited(False) is None
    assert list(client.items(True)) == list(client.others(True)) == [1]
    assert client.others(False) == []
    with client.opened(True) as number:
        assert number == 3
    assert client.awaited(True) == 2
