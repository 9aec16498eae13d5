"""What resources are made of, and what they are as objects."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import syncline
from neutral import turn
from resource_code import Client, Managed


async def open_managed() -> Managed:
    await turn()
    return Managed()


async def open_client() -> Client:
    await turn()
    return Client()


@asynccontextmanager
async def managed() -> AsyncIterator[Client]:
    made = Client()
    made.log.append("entered")
    yield made
    made.log.append("left")


@pytest.mark.parametrize(
    ("make", "log"),
    [
        (Managed, ["entered", "left"]),
        (open_managed, ["entered", "left"]),
        (managed, ["entered", "left"]),
        (Client, ["closed"]),
        (open_client, ["closed"]),
    ],
    ids=["manager", "coroutine with a manager", "contextlib's", "object", "coroutine with an object"],
)
def test_what_a_resource_can_be_made_of(
    each_bridge: syncline.Bridge, make: Callable[[], Any], log: list[str]
) -> None:
    """Managers are entered and left, as after a body without an error; other objects are closed."""
    client = each_bridge.resource(make)
    found = client.get()
    client.close()
    assert found.log == log


def test_a_function_of_ones_own_may_close_it(each_bridge: syncline.Bridge) -> None:
    """Sync or async; a manager is not entered then."""
    closed: list[object] = []

    async def shut(client: Client) -> None:
        await turn()
        closed.append(client)

    for close in (closed.append, shut):
        client = each_bridge.resource(Managed, close=close)
        found = client.get()
        client.close()
        assert closed.pop() is found
        assert found.log == []


def test_what_needs_no_closing_is_fine(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Such as a queue."""
    queue = make_bridge().resource(asyncio.Queue)
    assert isinstance(queue.get(), asyncio.Queue)
    queue.close()


def test_a_lock_is_not_taken_for_a_manager_to_be_entered(each_bridge: syncline.Bridge) -> None:
    """It would be locked for good; the error says how to write it."""
    with pytest.raises(TypeError, match=r"got None; .*`yield` one that is not to be entered, such as a lock"):
        each_bridge.resource(asyncio.Lock).get()


def test_it_pickles_by_name_or_as_a_new_one(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A module's is found by its name; another one arrives unopened."""
    assert pickle.loads(pickle.dumps(of_module)) is of_module
    client = syncline.resource(Client)
    mine = client.get()
    other = pickle.loads(pickle.dumps(client))
    assert other.get() is not mine
    client.close()
    other.close()


@syncline.resource
def of_module() -> Client:
    """Its docstring."""
    return Client()


def test_it_has_the_name_and_the_docstring_of_its_function() -> None:
    """For tools and messages."""
    assert (of_module.__name__, of_module.__module__, of_module.__doc__) == (
        "of_module",
        __name__,
        "Its docstring.",
    )
    assert repr(of_module) == "<syncline.Resource 'of_module'>"


def sync_generator() -> Any:
    yield Client()


def needs_a_url(url: str) -> Client:
    return Client()


async def forgets_to_return() -> None:
    Client()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Client(), "takes the function that makes the object, not the Client itself.*lambda"),
        (sync_generator, "the sync generator function 'sync_generator'; make it `async def`"),
        (needs_a_url, r"calls 'needs_a_url' without arguments .*'url'.*lambda: needs_a_url\(\.\.\.\)"),
        (
            forgets_to_return,
            "'forgets_to_return' got None; its function has to return the object or to `yield` it",
        ),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    """When it is made, or when it is opened."""
    with pytest.raises(TypeError, match=message):
        syncline.resource(make).get()
