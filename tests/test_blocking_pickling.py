"""Twins in other processes, and copies of them: by the async object's own way to be pickled and copied."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cloudpickle
import pytest

import syncline
from child import run_script

bridge = syncline.Bridge(name="pickled")
picklers = pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
Dumps = Callable[[Any], bytes]


class AsyncClient:
    """Has a part that can't be pickled, and says how to do without."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.lock = asyncio.Lock()

    async def get(self, key: int) -> int:
        await asyncio.sleep(0)
        return self.base + key

    async def child(self) -> AsyncClient:
        return AsyncClient(self.base + 1)

    @classmethod
    async def named(cls, key: int) -> int:
        return key

    def __getstate__(self) -> Any:
        return {"base": self.base}

    def __setstate__(self, state: Any) -> None:
        self.__init__(**state)  # type: ignore[misc]


class AsyncOther(AsyncClient): ...


class AsyncStuck:
    def __init__(self) -> None:
        self.generator = (i for i in range(3))

    async def get(self) -> int:
        return 1


Client = bridge.blocking(AsyncClient)
hidden = bridge.blocking(AsyncOther, name="Nowhere")


class MyClient(Client):  # type: ignore[misc, valid-type]
    def __init__(self, base: int, label: str) -> None:
        super().__init__(base)
        self.label = label

    def twice(self, key: int) -> int:
        return 2 * int(self.get(key))


@picklers
def test_a_twin_pickles_with_its_object(dumps: Dumps) -> None:
    """And arrives as the twin of what arrives."""
    client = Client(10)
    arrived = pickle.loads(dumps(client))
    assert type(arrived) is Client
    assert arrived is not client
    assert (arrived.base, arrived.get(1)) == (10, 11)
    assert type(arrived.child()) is Client
    one, other = pickle.loads(dumps((client, client)))
    assert one is other


@picklers
def test_the_class_and_its_methods_pickle_by_reference(dumps: Dumps) -> None:
    """Bound ones with their twin."""
    assert pickle.loads(dumps(Client)) is Client
    assert pickle.loads(dumps(Client.get)) is Client.get
    assert pickle.loads(dumps(Client(10).get))(5) == 15
    assert pickle.loads(dumps(Client.named))(5) == 5


@picklers
def test_a_subclass_keeps_what_it_has(dumps: Dumps) -> None:
    """Its class and its attributes."""
    arrived = pickle.loads(dumps(MyClient(3, "label")))
    assert (type(arrived), arrived.label, arrived.twice(1)) == (MyClient, "label", 8)


@picklers
def test_a_twin_whose_class_has_no_name_is_made_anew(dumps: Dumps) -> None:
    """Of the async class, on a bridge with the same options; one for all of its objects."""
    arrived, other_one = pickle.loads(dumps((hidden(1), hidden(2))))
    assert (type(arrived).__name__, arrived.get(1)) == ("Nowhere", 2)
    assert type(other_one) is type(arrived)
    with syncline.Bridge() as other:
        moved = other.blocking(Client)(4)
        arrived = pickle.loads(dumps(moved))
        assert isinstance(arrived, Client)
        assert arrived.get(1) == 5


def test_what_can_not_be_pickled_says_so() -> None:
    """As the async object does."""
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        pickle.dumps(bridge.blocking(AsyncStuck)())


def test_copies_are_twins_of_copies() -> None:
    """Shallow and deep."""
    client = MyClient(3, "label")
    for copied in (copy.copy(client), copy.deepcopy(client)):
        assert type(copied) is MyClient
        assert copied._twin_object is not client._twin_object
        assert (copied.label, copied.twice(1)) == ("label", 8)
        copied.base = 10
    assert client.base == 3


# Python's warning, which is an error in the middle of the fork on 3.15: the loop's thread is there.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes_maps_a_bound_method(method: str) -> None:
    """In each way to start them."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(Client(10).get, range(3))) == [10, 11, 12]


def test_a_twin_of_a_script_goes_to_other_processes_by_value() -> None:
    """By cloudpickle, in functions that use it; what comes out there is of that class."""
    finished = run_script(
        """
        import asyncio, subprocess, sys
        import cloudpickle, syncline

        class AsyncClient:
            def __init__(self, base):
                self.base = base
            async def get(self, key):
                await asyncio.sleep(0)
                return self.base + key
            async def me(self):
                return self

        Client = syncline.blocking(AsyncClient)

        class Doubled(Client):
            def get(self, key):
                return 2 * super().get(key)

        def use(key):
            client = Client(10)
            return client.get(key), client.me() is client, isinstance(Doubled(10), Client)

        ways = [Client(10).get, Doubled(10).get, lambda key: Client(10).get(key), use]
        child = "import pickle, sys; print([way(1) for way in pickle.load(sys.stdin.buffer)])"
        subprocess.run([sys.executable, "-c", child], input=cloudpickle.dumps(ways), check=True)
        """
    )
    finished.assert_clean()
    assert finished.lines == ["[11, 22, 11, (11, True, True)]"]
