"""`map(executor=...)` with the pool of Ray, on a cluster of one machine, in a program of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from child import Child

pytest.importorskip("ray")

SCRIPT = """
import functools, itertools, os, sys
folder, tests = {folder!r}, {tests!r}
sys.path.insert(0, tests)
import ray
from ray.util.multiprocessing import Pool
import syncline
import executor_code as code
from child import eventually

def left():
    return sorted(os.listdir(folder))

try:
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    options = dict(include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.init(num_cpus=2, runtime_env={{"env_vars": {{"PYTHONPATH": path}}}}, **options)
except Exception as error:
    print("no cluster:", error, flush=True)
    os._exit(0)
pool = Pool(2)
print(list(syncline.map(code.double, range(200), limit=10, executor=pool)) == [2 * each for each in range(200)])
pairs = syncline.map(code.double, range(60), chunk=7, ordered=False, with_input=True, executor=pool)
print(sorted(pairs) == [(each, 2 * each) for each in range(60)])
print(os.getpid() in set(syncline.map(code.process_of, range(40), chunk=2, executor=pool)))
print(list(syncline.map(lambda number: code.decorated(number + 1), [1, 2], executor=pool)))
try:
    list(syncline.map(functools.partial(code.fails_at, 7), range(20), chunk=5, executor=pool))
except ValueError as error:
    print(error)
for result in syncline.map(functools.partial(code.stays, folder), itertools.count(), chunk=1, executor=pool):
    print("stays", eventually(lambda: bool(left()), 60))
    break
print(left())
try:
    list(syncline.map(functools.partial(code.dies, folder, 13, 1), range(20), chunk=5, executor=pool))
except syncline.WorkerDiedError as error:
    print(13 in error.items)
pool.terminate()
ray.shutdown()
"""


@pytest.mark.timeout(330)
def test_ray(tmp_path: Path) -> None:
    """Results in order and not, functions by value, an error, an early end that leaves nothing, a worker that dies."""
    patience = {"RAY_raylet_start_wait_time_s": "200", "RAY_agent_register_timeout_ms": "200000"}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    script = SCRIPT.format(folder=str(tmp_path), tests=str(Path(__file__).parent.parent))
    with Child(script, env={**os.environ, **patience, **quiet}, limit=300) as child:
        end = child.finish()
    if end.out.startswith("no cluster"):
        pytest.skip(f"Ray doesn't start here: {end.out}")
    expected = ["True", "True", "False", "[4, 6]", "not 7", "stays True", "[]", "True"]
    assert [line for line in end.lines if "(raylet)" not in line] == expected, end.err
    assert "syncline" not in end.err
