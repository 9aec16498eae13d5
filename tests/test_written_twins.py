"""The twins that `python -m syncline twin` has written for the SDK in tests/sdk: used as its users use them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from sdk import blocking, client
from sdk.models import NotFoundError, Page, Usage
from syncline._twins.surface import surface

CLASSES = [
    (client.AsyncClient, blocking.Client),
    (client.AsyncAdmin, blocking.Admin),
    (client.Session, blocking.BlockingSession),
    (Page, blocking.BlockingPage),
]


@pytest.fixture
def store() -> blocking.Client:
    """A client with three keys."""
    made = blocking.Client("memory", level="high")
    for number, key in enumerate("abc"):
        made.put(key, str(number))
    return made


def test_the_constructor_runs_on_the_loop() -> None:
    """The async class asks for the running loop, and keeps it."""
    store = blocking.Client("memory")
    assert store._aio._loop is blocking.Client("other")._aio._loop
    assert (store.url, store.timeout, store.level, store.headers) == ("memory", 5.0, "low", {})


def test_methods_give_what_the_async_ones_give(store: blocking.Client) -> None:
    """By whatever kind of annotation: overloads, a typed dict, a ParamSpec, an awaitable, comments."""

    async def joined(*texts: str, by: str) -> str:
        return by.join(texts)

    assert store.get("a") == "0"
    assert store.get("x", None) is None
    with pytest.raises(NotFoundError):
        store.get("x")
    store.put("d", "3", timeout=1)
    assert store.delete("d", "e") == 1
    assert store.call(joined, "a", "b", by="-") == "a-b"
    assert store.count() == 3
    assert store.old(1, 2, 3) == [1, 2, 3]
    assert store.usage() == Usage(3)
    assert store.url_of("a") == "memory/a"
    assert "a" in store
    assert blocking.Client.resolve("host") == ("host", 80)
    assert blocking.Client.schemes == ("http", "https")
    with pytest.warns(DeprecationWarning, match="use delete"):
        store.remove("a")


def test_async_properties_are_read_and_cached_ones_again_and_again(store: blocking.Client) -> None:
    """Also by another twin of the same object, when the first is gone."""
    assert (store.version, store.quota, store.quota) == ("1.0", 1000, 1000)
    aio = store._aio
    del store
    assert blocking.Client._of(aio, syncline.default_bridge()).quota == 1000


def test_attributes_are_those_of_the_async_object(store: blocking.Client) -> None:
    """They are set there, too."""
    store.prefix = "p"
    store.timeout = 1.5
    assert (store._aio.prefix, store._aio.timeout) == ("p", 1.5)


def test_generators_iterators_and_managers_work_in_sync_code(store: blocking.Client) -> None:
    """Sending reaches the async generator, and the manager's end comes when its block ends."""
    assert list(store.scan("b")) == [("b", "1")]
    assert list(store.watch("a")) == ["0"]
    echo = store.echo("x")
    assert (next(echo), echo.send(3)) == ("x", "xxx")
    with pytest.raises(StopIteration):
        echo.send(0)
    with store.transaction() as changes:
        changes["a"] = "new"
        assert store.get("a") == "0"
    assert store.get("a") == "new"
    with contextlib.suppress(ZeroDivisionError), store.transaction() as changes:
        changes["a"] = "newer"
        raise ZeroDivisionError
    assert store.get("a") == "new"


def test_objects_come_out_as_the_same_twin_each_time(store: blocking.Client) -> None:
    """By themselves, in lists, mappings and tuples, from generators and managers."""
    first = store.open_session("first")
    assert isinstance(first, blocking.BlockingSession)
    assert store.find_session("none") is None
    assert store.find_session("first") is first
    assert store.all_sessions() == [first]
    assert store.sessions_by_name() == {"first": first}
    assert store.newest() == ("first", first)
    assert list(store.each_session()) == [first]
    with store.session("first") as session:
        assert session is first
    assert first.client is store
    assert first.renamed("first") is first
    assert first.commit(force=True) is True


def test_twins_go_in_as_their_async_objects(store: blocking.Client) -> None:
    """The SDK's method asserts that it gets sessions of its own; also from a constructor."""
    one, two, three = map(store.open_session, ("one", "two", "three"))
    assert store.close_sessions([one], two, last=three) == 3
    assert store.all_sessions() == []
    made = blocking.BlockingSession(store, "made")
    assert made._aio.client is store._aio
    other = blocking.Client("other")
    made.client = other
    assert made.client is other


def test_pages_of_a_generic_class_are_iterated_over(store: blocking.Client) -> None:
    """`__len__` stays, `__aiter__` has become `__iter__`."""
    page = store.page()
    assert (type(page), len(page), list(page), page.first()) == (blocking.BlockingPage, 2, ["a", "b"], "a")


def test_a_twin_is_entered_and_closed() -> None:
    """In one `with` inside of another, too."""
    with blocking.Client("memory") as store:
        assert store.is_open
        with store as again:
            assert again is store
    assert not store.is_open
    with blocking.Admin.connect("memory", "a", "b") as admin:
        assert isinstance(admin, blocking.Admin)
        assert admin.url == "memory/a/b"
        admin.put("a", "1")
        admin.wipe()
        assert admin.count() == 0
        admin.close()
    with pytest.raises(RuntimeError, match="this Admin is not entered"):
        admin.__exit__(None, None, None)


def test_a_twin_works_in_any_thread_and_inside_of_a_running_loop(
    store: blocking.Client, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    """Its calls are made where the async object lives."""
    assert inside(lambda: (store.get("a"), list(store.scan("c")))) == ("0", [("c", "2")])


def test_a_class_may_have_a_bridge_of_its_own() -> None:
    """Its objects live there, and those that come out of them."""
    with syncline.Bridge(name="own") as bridge:

        class Client(blocking.Client, bridge=bridge):
            pass

        own = Client("memory")
        session = own.open_session("one")
        assert session.commit(force=True)
        assert bridge.stats()["calls"] >= 3
        assert own._aio._loop is not blocking.Client("memory")._aio._loop


def test_threads_get_one_twin_for_one_object(store: blocking.Client) -> None:
    """Eight threads ask for it at the same time."""
    barrier = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        barrier.wait()
        found.append(store.open_session("one"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_twins_pickle_as_their_async_objects() -> None:
    """And are equal if these are."""
    page = blocking.BlockingPage([1, 2])
    again = pickle.loads(pickle.dumps(page))
    assert (type(again), list(again)) == (blocking.BlockingPage, [1, 2])
    assert page != again
    assert page == blocking.BlockingPage._of(page._aio, syncline.default_bridge())
    assert copy.copy(page)._aio is not page._aio


@pytest.mark.parametrize(("cls", "twin"), CLASSES, ids=lambda cls: cls.__name__)
def test_a_written_twin_has_what_the_class_offers(cls: type, twin: type) -> None:
    """Under the names of the model that `blocking` goes by, as methods and as properties alike."""
    for name, member in surface(cls).items():
        if member.kind == "attribute" and name.startswith("__"):
            continue
        found = inspect.getattr_static(twin, name)
        assert isinstance(found, property) == (not member.is_method and name not in ("schemes", "size")), name
        if member.is_method and not name.startswith("__"):
            assert not inspect.iscoroutinefunction(getattr(twin, name)), name
            parameters = inspect.signature(getattr(cls, member.name)).parameters
            assert list(inspect.signature(getattr(twin, name)).parameters) == list(parameters), name
            assert inspect.getdoc(getattr(twin, name)) == inspect.getdoc(getattr(cls, member.name)), name


def test_annotations_of_a_written_twin_can_be_looked_up() -> None:
    """As tools do it that read them when the program runs."""
    hints = inspect.get_annotations(blocking.Client.close_sessions, eval_str=True)
    assert hints["sessions"] == list[blocking.BlockingSession]
    assert inspect.iscoroutinefunction(blocking.Client.get) is False
