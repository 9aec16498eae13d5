"""What the doctor says of cores, quotas and spinning."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import eventually, run_script
from syncline import _core
from syncline._doctor.cores import cpu_quota

several_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="the process may use one core only"
)


def placed(*steps: str) -> list[str]:
    """Facts and findings about cores, of a process that has done these things."""
    script = ["import asyncio, os, syncline", *steps, "report = syncline.doctor()"]
    script += ["print(report.facts['cores']['threads spin before they sleep'])"]
    script += ["print(report.facts['cores']['why'].partition(':')[0])"]
    script += ["[print(each.what) for each in report.findings if each.topic == 'cores']"]
    finished = run_script("\n".join(script))
    finished.assert_clean()
    return finished.lines


ONE_CORE = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
CALL = "syncline.run_sync(asyncio.sleep, 0)"


def test_on_one_core_threads_do_not_spin() -> None:
    """And the reason is the affinity."""
    assert placed(ONE_CORE, CALL) == ["False", "the affinity is one core"]


@several_cores
def test_on_several_cores_they_do() -> None:
    """For a call's loop, as well."""
    assert placed(CALL) == ["True", "there is more than one core"]


@several_cores
def test_a_loop_that_was_started_before_the_affinity_was_set_is_named() -> None:
    """Whether its threads spin was decided when it was started."""
    assert placed(CALL, ONE_CORE) == [
        "False",
        "the affinity is one core",
        "the loop 'syncline' was started when the process could use several cores, and now it may use one",
    ]


@several_cores
def test_callers_that_do_not_spin_beside_computing_threads_are_named(make_bridge: Any) -> None:
    """The interpreter takes long to get each time: of several threads that compute, another one has it whenever a
    caller comes back. (Beside a single one many calls find it free.)"""
    done = threading.Event()

    def computes() -> None:
        while not done.is_set():
            pass

    bridge: syncline.Bridge = make_bridge(name="contended")
    computing = [threading.Thread(target=computes) for _ in range(4)]
    for thread in computing:
        thread.start()
    try:

        def passes_over() -> bool:
            bridge.run_sync(asyncio.sleep, 0)
            return bool(_core.spin_policy(bridge)["loops"][0]["callers"]["passes_over"] > 32)

        assert eventually(passes_over)
    finally:
        done.set()
        for thread in computing:
            thread.join()


def test_a_closed_bridge_has_no_loops() -> None:
    """Nor has one that was not used yet."""
    with syncline.Bridge(name="counted") as bridge:
        assert _core.spin_policy(bridge)["loops"] == []
        bridge.run_sync(asyncio.sleep, 0)
        (loop,) = _core.spin_policy(bridge)["loops"]
        assert loop["name"] == "counted"
        assert loop["thread"] in {each.ident for each in threading.enumerate()}

        def counts_agree() -> bool:
            (loop,) = _core.spin_policy(bridge)["loops"]
            counts = [loop[side][count] for side in ("callers", "loop") for count in ("won", "lost")]
            return bool(sum(counts) == bridge.stats()["spins_won"] + bridge.stats()["spins_lost"])

        # The loop's own spin after the call may be counted between two looks.
        assert eventually(counts_agree)
    assert _core.spin_policy(bridge)["loops"] == []


# Quotas


def machine(root: Path, files: dict[str, str]) -> Path:
    """A made-up file system of the kernel's."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({}, None),
    ],
    ids=["v2", "v2, of a group above", "v2, the root", "v2, none", "v1", "v1, none", "no cgroups"],
)
def test_the_quota_of_a_container_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    """The least of all groups that a process is in, of either version of cgroups."""
    assert cpu_quota(machine(tmp_path, files)) == quota
