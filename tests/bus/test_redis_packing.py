"""Our packing of commands is redis-py's, byte by byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imcore.bus.redis.connection import connect_pool
from imcore.bus.redis.packing import Word, pack

THEIRS = connect_pool("redis://127.0.0.1:1/0").make_connection()  # type: ignore[no-untyped-call]  # never connected

words = st.lists(st.binary(max_size=40) | st.text(max_size=40) | st.integers(0, 2**64), max_size=30)


@given(words)
def test_any_command_is_packed_as_redis_py_does(arguments: list[Word]) -> None:
    command = ["EVALSHA", *arguments]  # of a first word with blanks redis-py makes several
    assert pack(command) == b"".join(THEIRS.pack_commands([command]))
