"""What the tests ask of a redis-server of their own: its replies come whole, and it is the one that was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import redis_server
from tests.redis_server import RedisServer

ROOT = Path(__file__).parent.parent

needs_redis = pytest.mark.skipif(redis_server.missing is not None, reason=redis_server.missing or "")


@needs_redis
def test_a_reply_is_whole_however_long_and_deep_it_is(server: RedisServer) -> None:
    long = "x" * 300_000
    assert server.command("SET", "a", long) == b"+OK\r\n"
    assert server.command("GET", "a") == b"$300000\r\n%b\r\n" % long.encode()
    assert server.command("GET", "b") == b"$-1\r\n"
    assert server.command("EVAL", "return {1, {}, {'a', {false, redis.call('GET', 'a')}}}", "0") == (
        b"*3\r\n:1\r\n*0\r\n*2\r\n$1\r\na\r\n*2\r\n$-1\r\n$300000\r\n%b\r\n" % long.encode()
    )
    assert server.command("XREAD", "BLOCK", "1", "STREAMS", "c", "$") == b"*-1\r\n"
    assert server.command("NOVEL").startswith(b"-ERR ")


def test_no_port_is_given_twice_though_nobody_has_taken_it_yet() -> None:
    ports = [redis_server._free_port() for _ in range(1500)]
    assert len(set(ports)) == len(ports)


def test_the_server_that_was_named_is_never_another_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.redis_server import missing; print(missing)"],
        env=os.environ | {"REDIS_SERVER": "/nowhere/redis-server"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("REDIS_SERVER is '/nowhere/redis-server': expected a program that is here")
