"""A written twin of redis's client, whose class has 400 commands, against a real server."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from test_twins import redis_url

from syncline._commands import main

__all__ = ["redis_url"]
pytestmark = pytest.mark.timeout(120)


# A written method hands all its parameters on, and redis warns of those that are new, whatever their values.
@pytest.mark.filterwarnings("ignore:Call to .* with experimental usage of input argument:UserWarning")
def test_redis_commands_pipelines_and_scans(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands are sync methods that return awaitables, and say so by overloads or aliases."""
    errors = pytest.importorskip("redis.exceptions", reason="redis is not installed")
    monkeypatch.syspath_prepend(tmp_path)
    targets = ("redis.asyncio:Redis", "redis.asyncio.client:Pipeline", "redis.asyncio.client:PubSub")
    assert main(["twin", *targets, "-o", str(tmp_path / "redis_twin.py")]) == 0
    twins = importlib.import_module("redis_twin")
    with twins.BlockingRedis.from_url(redis_url, decode_responses=True) as client:
        assert type(client) is twins.BlockingRedis
        assert client.ping()
        assert client.set("key", "value")
        assert client.get("key") == "value"
        assert client.incrby("count", 5) == 5
        assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
        assert client.hgetall("hash") == {"a": "1", "b": "2"}
        assert sorted(client.scan_iter(match="*")) == ["count", "hash", "key"]
        with client.pipeline() as pipeline:
            assert isinstance(pipeline, twins.BlockingPipeline)
            pipeline.incr("count")
            pipeline.get("key")
            assert pipeline.execute() == [6, "value"]
        with pytest.raises(errors.ResponseError, match="not an integer"):
            client.incr("key")
        with client.pubsub() as subscription:
            subscription.subscribe("news")
            assert subscription.get_message(timeout=10)["type"] == "subscribe"
            client.publish("news", "hello")
            assert next(iter(subscription.listen()))["data"] == "hello"
