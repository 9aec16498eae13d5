"""A program with nested calls, each of whose lines runs: for coverage.py."""

from __future__ import annotations

PROGRAM = """\
import asyncio
import syncline

async def inner(n):
    await asyncio.sleep(0.001)
    doubled = n * 2
    return doubled

def sync_code(n):
    before = n
    value = syncline.run_sync(inner, before)
    after = value + 1
    return after

async def outer(n):
    first = sync_code(n)
    await asyncio.sleep(0)
    second = sync_code(first)
    third = second + 1
    return third

async def many():
    results = await asyncio.gather(*map(outer, range(3)))
    total = sum(results)
    return total

one = syncline.run_sync(many)
two = syncline.Bridge(scope="caller").run_sync(outer, 1)
assert one + two
"""
