"""docs/recipes-web.md: Django's database below `run_sync`, with real servers, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import recipe_code
from recipe_servers import free_port, serving

pytest.importorskip("django")

from databases import postgresql, sqlite

SETTINGS = """
import json, os

SECRET_KEY = "none"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
DATABASES = {"default": {**json.loads(os.environ["DATABASE"]), "ATOMIC_REQUESTS": bool(os.environ.get("ATOMIC"))}}
"""

MORE_VIEWS = """

import functools, os, threading
import django.db
from django.http import HttpResponse
from django.urls import path
from django.utils import translation
import syncline

if os.environ.get("SCOPE"):  # the default bridge by another
    syncline.run_sync = syncline.Bridge(scope=os.environ["SCOPE"]).run_sync


async def place_and_look(items):
    await place(items)
    # The thread that has the view's connection, and what is not committed there.
    connection = await syncline.to_caller(lambda: (threading.get_ident(), id(django.db.connection.connection)))
    return connection, [order.item async for order in Order.objects.order_by("item")], translation.get_language()


def broken(request):
    here = threading.get_ident(), id(django.db.connection.connection)
    with translation.override("de"):
        connection, items, language = syncline.run_sync(place_and_look, request.GET.getlist("item"))
    assert connection[0] == here[0], "in the thread of the view"
    assert items == sorted(request.GET.getlist("item")), items
    assert language == "de"
    raise LookupError("the view fails after its coroutine has done its work")


def inside(request):
    try:
        with transaction.atomic():
            Order.objects.create(item="by sync code", price=1)
            syncline.run_sync(place, ["by async code"])
            seen = Order.objects.count()
            raise LookupError
    except LookupError:
        return JsonResponse({"seen": seen, "left": Order.objects.count()})


def count(request):
    return JsonResponse({"orders": Order.objects.count()})


def clear(request):
    Order.objects.all().delete()
    return HttpResponse()


urlpatterns = [path(view.__name__, view) for view in (order, broken, inside, count, clear)]
"""

PROGRAM = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.{kind} import get_{kind}_application
application = get_{kind}_application()
"""

TESTS = """
import asyncio
from django.db import connection
from django.test import TestCase, TransactionTestCase
import syncline
from shop.models import Order
from shop import views


class InOneTransaction(TestCase):
    @classmethod
    def setUpTestData(cls):
        syncline.run_sync(views.place, ["for all tests"])

    def test_first(self):
        assert connection.in_atomic_block
        syncline.run_sync(views.place, ["one"])
        assert sorted(Order.objects.values_list("item", flat=True)) == ["for all tests", "one"]

    def test_second(self):
        syncline.run_sync(views.place, ["one"])
        assert Order.objects.count() == 2

    def test_a_view(self):
        assert self.client.get("/order?item=a&item=bb").json() == {"orders": 3}
        assert self.client.get("/order?item=c&item=c").status_code == 409
        assert Order.objects.count() == 3

    async def test_async(self):
        await Order.objects.acreate(item="one", price=1)
        assert await Order.objects.acount() == 2


class AfterThat(TransactionTestCase):
    def test_nothing_is_left(self):
        assert Order.objects.count() == 0
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """The recipe's app in a project, and its database, as JSON."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe_code.write(folder, "recipes-web.md", "Django's database")
    (folder / "shop" / "__init__.py").touch()
    with (folder / "shop" / "views.py").open("a") as views:
        views.write(MORE_VIEWS)
    (folder / "shop" / "tests.py").write_text(TESTS)
    (folder / "settings.py").write_text(SETTINGS)
    (folder / "urls.py").write_text("from shop.views import urlpatterns")
    for kind in ("wsgi", "asgi"):
        (folder / f"{kind}.py").write_text(PROGRAM.format(kind=kind))
    with ExitStack() as stack:
        made = sqlite(folder) if request.param == "sqlite" else stack.enter_context(postgresql())
        database = json.dumps(made)
        created = django(folder, database, "migrate", "--run-syncdb")
        assert created.returncode == 0, created.stderr
        yield folder, database


def django(folder: Path, database: str, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return recipe_code.run(
        folder, "-m", "django", *command, DATABASE=database, DJANGO_SETTINGS_MODULE="settings", **env
    )


SERVERS = {
    "gunicorn": [
        "-m",
        "gunicorn",
        "wsgi:application",
        "--worker-class=gthread",
        "--threads=4",
        "--bind=127.0.0.1:{port}",
    ],
    "uvicorn": ["-m", "uvicorn", "asgi:application", "--port={port}", "--lifespan=off"],
}


@pytest.mark.parametrize("scope", ["", "caller", "thread"], ids=["process", "caller", "thread"])
@pytest.mark.parametrize("atomic", ["", "yes"], ids=["autocommit", "atomic requests"])
@pytest.mark.parametrize("server", SERVERS)
def test_what_a_coroutine_does_is_in_the_views_transaction(
    project: tuple[Path, str], server: str, atomic: str, scope: str
) -> None:
    """A block that fails takes its coroutine's queries back, and so does a request that fails with ATOMIC_REQUESTS."""
    folder, database = project
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    env = {"DATABASE": database, "ATOMIC": atomic, "SCOPE": scope}
    with serving(folder, sys.executable, *command, port=port, **env) as url, httpx.Client() as client:

        def ask(path: str) -> httpx.Response:
            return client.get(f"{url}/{path}", timeout=30)

        assert ask("clear").status_code == 200
        assert ask("order?item=a&item=bb&item=ccc").json() == {"orders": 3}
        assert ask("order?item=dddd&item=eeeee&item=a").status_code == 409
        assert ask("count").json() == {"orders": 3}
        assert ask("inside").json() == {"seen": 5, "left": 3}
        assert ask("clear").status_code == 200
        assert ask("broken?item=x&item=y").status_code == 500
        assert ask("count").json() == {"orders": 0 if atomic else 2}


@pytest.mark.parametrize("scope", ["", "caller"], ids=["process", "caller"])
def test_test_cases_take_back_what_coroutines_do(project: tuple[Path, str], scope: str) -> None:
    """Django's own runner, `TestCase` in one transaction a test, and async tests."""
    folder, database = project
    ended = django(folder, database, "test", "--noinput", SCOPE=scope)
    assert ended.returncode == 0, ended.stderr
    assert "Ran 5 tests" in ended.stderr
