"""How many cores there are for the threads of a hop, and whether these spin before they sleep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core
from .._default import default_bridge

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Report

_RARE = 32
"""Attempts passed over: the most that failed spins lead to. More is a sign that the interpreter is contended."""


def look(report: Report) -> None:
    """Adds what there is to say."""
    policy = _core.spin_policy(default_bridge())
    usable, quota = policy["usable_cores"], cpu_quota()
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    report.fact("cores", "of the machine", os.cpu_count())
    report.fact("cores", "this thread may use", affinity)
    report.fact("cores", "quota of the container", quota)
    report.fact("cores", "syncline reckons with", usable)
    if hasattr(os, "getloadavg"):
        report.fact("cores", "load of the last minute", round(os.getloadavg()[0], 2))
    report.fact("cores", "threads spin before they sleep", usable > 1)
    report.fact("cores", "why", _why(policy, affinity, quota))
    if usable == 1 and quota is not None and (affinity is None or len(affinity) > 1):
        report.find(
            "note",
            "cores",
            f"the container may use {quota:g} of the {os.cpu_count()} cores, which counts as one",
            meaning="Threads don't spin: that would use up the quota of those who have the results. A call costs a "
            "fourth of run_coroutine_threadsafe(...).result(), where it could cost a fifteenth.",
            advice="Nothing; or give the container two cores, if calls are what takes long.",
        )
    for each in policy["loops"]:
        _loop(report, each, usable)


def _why(policy: dict[str, Any], affinity: list[int] | None, quota: float | None) -> str:
    if policy["usable_cores"] > 1:
        spin, probe = (round(policy[name] * 1e6) for name in ("spin_seconds", "probe_seconds"))
        return (
            f"there is more than one core: up to {spin} us for what comes soon ({probe} us after a failure), one "
            "thread at a time, not on the core of the thread that it waits for, and rarely, where spins keep failing"
        )
    if affinity is not None and len(affinity) == 1:
        return "the affinity is one core: a spin would keep the other thread from it"
    if quota is not None and quota < 2:
        return "the container's quota is less than two cores: a spin would use it up"
    return "there is one core: a spin would keep the other thread from it"


def _loop(report: Report, each: dict[str, Any], usable: int) -> None:
    name, callers = each["name"], each["callers"]
    if callers["allowed"] != (usable > 1):
        then, now = ("several cores", "one") if callers["allowed"] else ("one core", "several")
        report.find(
            "warning",
            "cores",
            f"the loop {name!r} was started when the process could use {then}, and now it may use {now}",
            meaning="Whether its threads spin was decided then, and is wrong now: calls cost more than they need.",
            advice="Set the affinity before the first call, or close that bridge and make another.",
        )
    elif callers["passes_over"] > _RARE:
        report.find(
            "note",
            "cores",
            f"callers of the loop {name!r} don't spin for now: it took long to get the interpreter",
            meaning="Another thread computes in Python, and whoever comes back from a wait has to wait for it.",
            advice="Let the computing be done in another process, or in code that gives the interpreter away.",
        )


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many cores' time the process's cgroups let it use, the least of them; None where there is no limit.

    The core asks Rust's standard library, which looks at the same files, and rounds it down.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            quotas += _quotas(root / "sys/fs/cgroup", group, _unified)
        elif "cpu" in controllers.split(","):
            for mount in {controllers, "cpu"}:
                quotas += _quotas(root / "sys/fs/cgroup" / mount, group, _of_controller)
    return min(quotas, default=None)


def _quotas(mount: Path, group: str, read: Callable[[Path], tuple[int, int]]) -> list[float]:
    """Those of a group and of all that it is in."""
    folder = mount / group.lstrip("/")
    found: list[float] = []
    for each in (folder, *folder.parents):
        if not each.is_relative_to(mount):
            break
        try:
            quota, period = read(each)
        except (OSError, ValueError):  # no such file; or "max", which is no number
            continue
        if quota > 0 and period > 0:
            found.append(quota / period)
    return found


def _unified(folder: Path) -> tuple[int, int]:
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota), int(period)


def _of_controller(folder: Path) -> tuple[int, int]:
    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota), int(period)
