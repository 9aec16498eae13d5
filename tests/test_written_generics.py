"""Twins of generic classes, written by `python -m syncline twin`, and made by `blocking`.

That type checkers agree with what was written is checked by themselves: they look at tests/sdk, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import syncline
from sdk import generic, generic_blocking
from syncline._commands import main

SDK = Path(__file__).parent / "sdk"
NAMES = ["Rest", "Resource", "IntRest", "ListRest"]


@pytest.fixture(params=["written", "made"])
def twins(request: pytest.FixtureRequest, make_bridge: Callable[..., syncline.Bridge]) -> Any:
    """Both forms of the same classes."""
    if request.param == "written":
        return generic_blocking
    bridge = make_bridge()
    return SimpleNamespace(**{name: bridge.blocking(getattr(generic, f"Async{name}")) for name in NAMES})


def test_the_twins_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same input gives the same file."""
    monkeypatch.chdir(SDK)
    targets = [f"sdk.generic:Async{name}" for name in NAMES]
    assert main(["twin", *targets, "--line-length=110", "-o", "generic_blocking.py", "--check"]) == 0


def test_a_constructor_takes_what_it_is_generic_in_and_a_typed_dict(twins: Any) -> None:
    """With and without its type in brackets, which belong to the class, not to its objects."""
    for make in (twins.Rest, twins.Rest[str]):
        client = make(str, "/strings", retries=5)
        assert (type(client), client.make, client.url, client.retries) == (twins.Rest, str, "/strings", 5)
        assert client.fetch(retries=1) == ""
    assert twins.ListRest(list, retries=1).first([1, 2]) == 1
    assert isinstance(twins.IntRest(), twins.Rest)
    assert twins.IntRest().get() == 0


def test_methods_of_the_class_give_twins(twins: Any) -> None:
    """Of another type than the class has, of its own, and what has nothing to do with it."""
    assert type(twins.Rest.to(bytes)) is twins.Rest
    assert twins.Rest.to(bytes).make is bytes
    assert twins.Rest.opened(str).retries == 2
    assert twins.ListRest.both(1, "one") == (1, "one")


def test_what_is_asked_for_by_type_comes_as_that(twins: Any) -> None:
    """By overloads, bounds, and parameters of another function."""
    client = twins.Rest(str, retries=1)
    assert client.get(cast_to=int) == 0
    assert client.parse(generic.Model, one=1).data == {"one": 1}

    async def named(inner: generic.AsyncRest[str], text: str, times: int = 2) -> str:
        return f"{type(inner).__name__}: {text * times}"

    assert client.call(named, "a", times=3) == "AsyncRest: aaa"


def test_a_generic_object_s_objects_are_twins(twins: Any) -> None:
    """And lead back to the same one."""
    client = twins.Rest(str, retries=1)
    resource = client.resource(bytes)
    assert type(resource) is twins.Resource
    assert list(resource.all()) == [b""]
    assert resource.client() is client
