"""Twins of real clients, written and used: httpx, aiosqlite, aiohttp; and that they are what `blocking` makes."""

from __future__ import annotations

import importlib
import inspect
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import syncline
from sdk import client as sdk
from sdk.models import Page
from syncline._commands import main
from test_real_http import Server, server

__all__ = ["server"]

Written = Callable[..., Any]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Writes the twins of some classes, and imports them."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(*targets: str) -> Any:
        name = f"twins_{abs(hash(targets))}"
        assert main(["twin", *targets, "-o", str(tmp_path / f"{name}.py")]) == 0
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return write


def test_httpx_requests_and_streams(server: Server, written: Written) -> None:
    """On one connection, which outlives the calls; the response streams by its twin."""
    twins = written("httpx:AsyncClient", "httpx:Response=Response")
    with twins.Client(base_url=server.url, timeout=30) as client:
        for number in range(3):
            assert client.get(f"/double/{number}").json() == {"double": 2 * number}
        assert server.connections == 1
        with client.stream("GET", "/lines") as response:
            assert isinstance(response, twins.Response)
            assert response.status_code == 200
            assert list(response.iter_lines()) == [f"line {number}" for number in range(100)]
        request = client.build_request("GET", "/double/4")
        assert client.send(request).json() == {"double": 8}
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get("gopher://host/")
        client.headers = {"x-own": "1"}
        assert client.headers["x-own"] == "1"
        assert not client.is_closed
    assert client.is_closed


def test_the_twin_of_httpx_s_client_has_the_surface_of_its_sync_client(written: Written) -> None:
    """Which its authors wrote by hand: the same names, kinds, and parameters with the same defaults."""
    twin = written("httpx:AsyncClient").Client
    names = [name for name in dir(httpx.Client) if not name.startswith("_")]
    assert [
        name for name in dir(twin) if not name.startswith("_") and name not in ("aio", *ATTRIBUTES)
    ] == names
    for name in names:
        theirs, ours = (inspect.getattr_static(cls, name) for cls in (httpx.Client, twin))
        assert isinstance(ours, property) == isinstance(theirs, property), name
        if not isinstance(theirs, property):
            assert parameters(ours) == parameters(theirs), name


ATTRIBUTES = ("follow_redirects", "max_redirects")
"""Of httpx's clients, set by `__init__`."""


def parameters(function: Any) -> list[Any]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_a_database_is_opened_read_and_closed(written: Written, tmp_path: Path) -> None:
    """aiosqlite's connection and cursor: `with`, `for`, errors, functions of ours in SQL."""
    twins = written("aiosqlite:Connection", "aiosqlite:Cursor")
    connection = twins.BlockingConnection(lambda: sqlite3.connect(tmp_path / "data"), 64)
    with connection as database:
        assert database is connection
        database.execute("create table t (n integer, s text)")
        database.executemany("insert into t values (?, ?)", [(1, "a"), (2, "b")])
        database.commit()
        with database.execute("select n, s from t order by n") as cursor:
            assert isinstance(cursor, twins.BlockingCursor)
            assert list(cursor) == [(1, "a"), (2, "b")]
        database.create_function("double", 1, lambda n: 2 * n)
        assert database.execute("select double(n) from t").fetchall() == [(2,), (4,)]
        with pytest.raises(aiosqlite.OperationalError, match="no such table"):
            database.execute("select * from missing")
        database.row_factory = sqlite3.Row
        assert database.execute("select s from t").fetchone()["s"] == "a"
        assert "CREATE TABLE" in "".join(database.iterdump())
        assert database.total_changes == 2


def test_sqlalchemy_s_results_are_streamed(written: Written) -> None:
    """Async code awaits or enters what `AsyncConnection.stream` gives, a decorated generator with overloads."""
    of = "sqlalchemy.ext.asyncio:Async"
    twins = written(
        *(f"{of}{name}" for name in ("Engine", "Connection", "Session", "Result", "ScalarResult"))
    )
    engine = twins.Engine._of(create_async_engine("sqlite+aiosqlite://"), syncline.default_bridge())
    with engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
        with connection.stream(text("select 1 union select 2")) as rows:
            assert type(rows) is twins.Result
            assert iter(rows) is rows
            assert list(rows) == [(1,), (2,)]
        assert connection.stream(text("select 3")).run().all() == [(3,)]
        with connection.stream_scalars(text("select 4")) as scalars:
            assert scalars.all() == [4]
    with twins.Session(engine) as session:
        assert session.stream(text("select 5")).all() == [(5,)]
    engine.dispose()


def test_aiohttp_s_session_is_made_on_the_loop(server: Server, written: Written) -> None:
    """Its constructor asks for the running loop; requests are awaited, and entered as in async code."""
    twins = written("aiohttp:ClientSession", "aiohttp:ClientResponse")
    with twins.BlockingClientSession(server.url) as session:
        assert session.get("/double/4").json(content_type=None) == {"double": 8}
        with session.get("/lines") as response:
            assert isinstance(response, twins.BlockingClientResponse)
            assert response.status == 200
            assert len(response.text().splitlines()) == 100
    assert session.closed


def test_the_twin_of_httpx_s_client_is_written_within_two_seconds(tmp_path: Path) -> None:
    """The whole command, imports and all: in processor time, as others may be at work here."""
    command = [sys.executable, "-m", "syncline", "twin", "httpx:AsyncClient", "-o", "client.py"]
    before = os.times()
    subprocess.run(command, check=True, cwd=tmp_path)
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < taken <= 2


@pytest.mark.parametrize(
    "cls",
    [
        sdk.AsyncClient,
        sdk.AsyncAdmin,
        sdk.Session,
        Page,
        httpx.AsyncClient,
        httpx.Response,
        aiosqlite.Connection,
    ],
    ids=lambda cls: f"{cls.__module__}-{cls.__name__}",
)
def test_a_written_twin_has_what_blocking_gives(cls: type, written: Written) -> None:
    """The same names and the same parameters; what it has besides are the attributes that `__init__` sets."""
    made = syncline.Bridge().blocking(cls)
    where = "httpx" if cls.__module__ == "httpx" else cls.__module__
    twin = getattr(written(f"{where}:{cls.__name__}"), made.__name__)
    ours, theirs = ({name for name in dir(each) if not name.startswith("_")} for each in (twin, made))
    assert theirs <= ours
    for name in ours - theirs:
        assert isinstance(inspect.getattr_static(twin, name), property)
    for name in theirs:
        one, other = (inspect.getattr_static(each, name) for each in (twin, made))
        if inspect.isroutine(getattr(made, name)):
            assert list(inspect.signature(getattr(twin, name)).parameters) == list(
                inspect.signature(getattr(made, name)).parameters
            ), name
            assert type(one) is type(other) or not isinstance(one, (classmethod, staticmethod)), name
