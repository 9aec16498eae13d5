"""Twins of dataclasses, of attrs's and pydantic's classes, of protocols, and of methods that decorators change: written
by `python -m syncline twin`, and made by `blocking`.

That type checkers agree with what was written is checked by themselves: they look at tests/sdk, too."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import syncline
from sdk import records, records_blocking
from syncline._commands import main
from syncline._twins.surface import surface
from written import Write, has, write

__all__ = ["write"]

SDK = Path(__file__).parent / "sdk"
NAMES = [
    "Record",
    "Feed",
    "Job",
    "Defined",
    "Frozen",
    "Reader",
    "Base",
    "Changing",
    "Changing.AsyncPart",
    "Path",
]


@pytest.fixture(params=["written", "made"])
def twins(request: pytest.FixtureRequest, make_bridge: Callable[..., syncline.Bridge]) -> Any:
    """Both forms of the same classes."""
    if request.param == "written":
        return records_blocking
    bridge = make_bridge()
    made: dict[str, Any] = {}
    for name in NAMES:
        of: Any = records
        for part in f"Async{name}".split("."):
            of = getattr(of, part)
        twin = bridge.blocking(of)
        made[twin.__name__] = twin
    return SimpleNamespace(**made)


def test_the_twins_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same input gives the same file."""
    monkeypatch.chdir(SDK)
    targets = [f"sdk.records:Async{name}" for name in NAMES]
    assert main(["twin", *targets, "--line-length=110", "-o", "records_blocking.py", "--check"]) == 0


def test_what_only_a_constructor_takes_is_no_attribute(twins: Any) -> None:
    """What it makes of it is one, and what another method sets, once it has done so."""
    record = twins.Record("url", "secret", retries=2)
    assert (record.token, record.retries, record.hidden, record.kind) == ("SECRET", 2, "hidden", "record")
    assert "secret" not in dir(record)
    assert "secret" not in surface(records.AsyncRecord)
    with pytest.raises(AttributeError, match="secret"):
        _ = record.secret
    with pytest.raises(AttributeError, match="last"):
        _ = record.last
    assert (record.get("a"), record.last, record.cache) == (0, "a", {"a": 0})
    assert twins.Record("url", "secret").cache == {}


def test_what_may_be_iterated_over_is_if_it_is_there(twins: Any) -> None:
    """A field and a result that are async iterators, or something else, or None."""

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2

    feed = twins.Feed(items=["a", "b"], source=source())
    assert list(feed.source) == [1, 2]
    assert list(feed.each()) == list(feed.rest()) == feed.rest(wanted=False) == ["a", "b"]
    assert list(feed) == ["a", "b"]
    assert feed.rest(wanted=False) is None
    other = twins.Feed(parent=feed)
    assert (other.parent, other.source) == (feed, None)


def test_a_class_that_is_generic_in_parameters(twins: Any) -> None:
    """Its constructor takes a function, and the arguments of that."""

    async def add(x: int, y: int = 2) -> int:
        return x + y

    assert twins.Job(add, 1, y=5).result() == 6


def test_a_class_of_attrs_s(twins: Any) -> None:
    """Aliases, factories and validators are its own; frozen ones can't be set; equal objects have equal twins."""
    defined = twins.Defined("url", token="T")
    assert (defined.get(), defined.names, defined.retries) == ("url/T", [], 3)
    with pytest.raises(TypeError, match="must be <class 'int'>"):
        twins.Defined("url", "many")
    assert defined == twins.Defined("url", token="T")
    assert not defined != twins.Defined("url", token="T")  # noqa: SIM202 -- that is another method
    assert defined != twins.Defined("url", token="other")
    frozen = twins.Frozen(number=1)
    assert frozen.next() == twins.Frozen(number=2)
    with pytest.raises(AttributeError):
        frozen.number = 2
    if twins is records_blocking:
        assert records_blocking.Frozen.number.fset is None


def test_a_decorated_method_gives_what_its_decorators_say(twins: Any) -> None:
    """A list of an async generator, a generator of a coroutine, and what says nothing."""
    changing = twins.Changing("one")
    assert changing.slow() == [changing]
    parts = changing.parts(3)
    assert len(parts) == 3
    assert all(type(part).__name__ == "Part" and part.whole() is changing for part in parts)
    assert list(changing.pages()) == [changing, changing]
    assert changing.anything() == "key"


def test_properties_are_deleted_as_well(twins: Any) -> None:
    """As they are set."""
    changing = twins.Changing("one")
    changing.rate = "2.5"
    assert changing.rate == 2.5
    del changing.rate
    assert changing.rate == 0.0


def test_a_default_that_is_one_object_stays_that(twins: Any) -> None:
    """Written twins leave the argument out, instead of making another object."""
    assert twins.Changing("one").default()
    assert not twins.Changing("one").default(made=records.Single())
    assert not twins.Changing("one").default(key=None)


@pytest.mark.parametrize("name", ["another", "another_reader"])
def test_an_object_comes_as_the_twin_of_its_own_class(twins: Any, name: str) -> None:
    """Where the annotation names a base, or a protocol, too."""
    found = getattr(twins.Changing("one"), name)()
    assert type(found) is twins.Changing
    assert found.name == "another"
    assert found.first(found) == b"a"


def test_operators_know_twins(twins: Any) -> None:
    """Those of classes that compare with anything."""
    one, two = twins.Changing("one"), twins.Changing("two")
    assert one < two
    assert not two < one


def test_a_class_that_finds_its_attributes_has_them_in_its_twin(twins: Any) -> None:
    """By its own `__getattr__`: objects come as twins, and what it has not is missing."""
    path = twins.Path()
    assert type(path.users) is twins.Path
    assert path.users.one.get() == "/users/one"
    assert path.users(sort="name") == "/users?{'sort': 'name'}"
    with pytest.raises(AttributeError, match="_hidden"):
        _ = path._hidden


def test_protocols_and_abstract_classes_are_not_made(twins: Any) -> None:
    """As their async classes aren't."""
    with pytest.raises(TypeError, match="abstract class"):
        twins.Base("name")
    with pytest.raises(TypeError, match="Protocols cannot be instantiated"):
        twins.Reader()


MODEL = """\
    from __future__ import annotations

    from typing import Any, ClassVar

    from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field, field_validator, model_validator


    class AsyncUser(BaseModel):
        model_config = ConfigDict(extra="forbid")

        id: int
        name: str = "nobody"
        tags: list[str] = Field(default_factory=list)
        full_name: str = Field("", alias="fullName")
        count: ClassVar[int] = 5
        _calls: int = PrivateAttr(default=0)

        @field_validator("name")
        @classmethod
        def not_empty(cls, value: str) -> str:
            if not value:
                raise ValueError("empty")
            return value

        @model_validator(mode="after")
        def checked(self) -> AsyncUser:
            return self

        @computed_field
        @property
        def label(self) -> str:
            return f"{self.id}: {self.name}"

        async def rename(self, name: str) -> AsyncUser:
            self._calls += 1
            self.name = name
            return self

    class AsyncAdmin(AsyncUser):
        model_config = ConfigDict(frozen=True)

        async def itself(self) -> AsyncUser:
            return self
"""


def test_a_model_of_pydantic_s(write: Write) -> None:
    """Its fields are the parameters of the constructor, and those that are left out are not set."""
    text = write(MODEL, "AsyncUser AsyncAdmin")
    has(
        text,
        "    count = AsyncUser.count",
        "    def __init__(\n",
        "        id: int,",
        "        fullName: str = OMITTED,",
        "    def full_name(self) -> str:",
        "    def label(self) -> str:",
        "class Admin(User, of=AsyncAdmin):",
        "    model_config = AsyncAdmin.model_config",
    )
    assert "def __pydantic" not in text
    assert "def __get_pydantic" not in text
    assert "__signature__" not in text
    admin = text.partition("class Admin")[2]
    assert "name.setter" not in admin
    twins = importlib.import_module(f"{write.name}_twin")
    made = SimpleNamespace(
        User=syncline.Bridge().blocking(write.source().AsyncUser),
        Admin=syncline.Bridge().blocking(write.source().AsyncAdmin),
    )
    for each in (twins, made):
        user = each.User(id=1, fullName="one")
        assert (user.id, user.full_name, user.label, user.tags) == (1, "one", "1: nobody", [])
        assert user.model_fields_set == {"id", "full_name"}
        assert user.rename("two") is user
        assert user.model_dump() == {
            "id": 1,
            "name": "two",
            "tags": [],
            "full_name": "one",
            "label": "1: two",
        }
        assert type(each.User.model_validate({"id": 2})) is each.User
        with pytest.raises(ValueError, match="valid integer"):
            each.User(id="no number")
        assert list(inspect.signature(each.User).parameters) == ["id", "name", "tags", "fullName"]
        assert each.Admin.model_config["frozen"]
        with pytest.raises((ValueError, AttributeError)):
            each.Admin(id=1).rename("two")
