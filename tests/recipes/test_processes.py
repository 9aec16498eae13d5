"""joblib and Dask: bound methods, twins and functions of a script as work for other processes."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(180)

CLIENTS = """
import asyncio, syncline

class Client:
    def __init__(self, base):
        self.base = base
    @syncline.synced
    async def get(self, key):
        await asyncio.sleep(0)
        return self.base + key

class AsyncClient:
    def __init__(self, base):
        self.base = base
    async def get(self, key):
        await asyncio.sleep(0)
        return self.base + key

Twin = syncline.blocking(AsyncClient, name="Twin")

@syncline.synced
async def double(n):
    await asyncio.sleep(0)
    return 2 * n
"""


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend: str) -> None:
    """Each of its ways to work in parallel."""
    pytest.importorskip("joblib", reason="joblib is not installed")
    finished = run_script(
        f"""{CLIENTS}
if __name__ == "__main__":
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks of threads
    from joblib import Parallel, delayed
    work = Parallel(n_jobs=2, backend="{backend}")
    print(Client(10).get(0))
    for function in (Client(10).get, Twin(10).get, double):
        print(work(delayed(function)(n) for n in range(3)))
""",
        limit=120,
    )
    assert finished.lines == ["10", "[10, 11, 12]", "[10, 11, 12]", "[0, 2, 4]"], finished.err
    assert finished.status == 0


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_dask(processes: bool) -> None:
    """A cluster on this machine."""
    pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    finished = run_script(
        f"""{CLIENTS}
if __name__ == "__main__":
    from distributed import Client as Cluster, LocalCluster
    options = dict(n_workers=1, threads_per_worker=2, processes={processes}, dashboard_address=None)
    with LocalCluster(**options) as local, Cluster(local) as cluster:
        for function in (Client(10).get, Twin(10).get, double):
            print(cluster.gather(cluster.map(function, range(3))))
""",
        limit=120,
    )
    assert finished.lines == ["[10, 11, 12]", "[10, 11, 12]", "[0, 2, 4]"], finished.err
    assert finished.status == 0
