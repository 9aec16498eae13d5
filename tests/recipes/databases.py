"""Databases for the recipes: a SQLite file, and a PostgreSQL server of our own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipe_servers import free_port

FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/pgsql/bin")]
"""Where Debian and others have the server's programs, which are not on PATH."""


def program(name: str) -> str:
    """One of PostgreSQL's programs; the test is skipped where there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, FOLDERS)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"PostgreSQL's server is not here: there is no {name}")
    return found


def user() -> str | None:
    """Who runs the server, which refuses to be root's."""
    if os.name != "posix" or os.getuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    pytest.skip("PostgreSQL does not run as root, and there is no other user here")


@contextlib.contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """A server with an empty database, as Django's settings name it."""
    pytest.importorskip("psycopg", reason="Django talks to PostgreSQL by psycopg")
    initdb, server, owner = program("initdb"), program("pg_ctl"), user()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if owner is not None:
            shutil.chown(folder, owner)
        data, port = Path(folder) / "data", free_port()

        def run(*command: str) -> None:
            with (Path(folder).with_suffix(".log")).open("ab") as log:
                subprocess.run(
                    command, check=True, user=owner, cwd=folder, stdout=log, stderr=log, timeout=100
                )

        run(initdb, "-D", str(data), "-U", "syncline", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
        run(server, "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "syncline",
                "HOST": "127.0.0.1",
                "PORT": str(port),
            }
        finally:
            run(server, "-D", str(data), "-m", "immediate", "stop")


def sqlite(folder: Path) -> dict[str, str]:
    """A file, which Django makes."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
