"""The control maps (wire: "Control maps"): what may be in them, and what is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import BadHello
from imcore.messages import Error, GoAway, Hello, Refusal, Resume, Welcome, pack, unpack

Kind = type[Any]  # one of the five

KINDS: list[Kind] = [Hello, Welcome, Refusal, GoAway, Error]
counts = st.integers(0, 2**64 - 1)
millis = st.integers(0, 2**53)
texts = st.text(st.characters(codec="utf-8"), max_size=64)
seconds = st.integers(1, 65535)

HELLO: dict[str, Any] = {"token": "t", "device": "phone", "role": "both"}
WELCOME: dict[str, Any] = {
    "session": "s",
    "user": "alice",
    "node": "gw-1",
    "epoch": "e",
    "head": 9,
    "first": 3,
    "resumed": True,
    "accepted": 4,
    "heartbeat": [30, 270],
    "idle_s": 120,
    "max_frame": 65536,
    "time_ms": 1,
}
REFUSAL: dict[str, Any] = {"code": "slow", "text": "", "retry_ms": 5}
GOAWAY: dict[str, Any] = {"code": "draining", "drain_ms": 1, "spread_ms": 2, "endpoints": ["a:80"]}
WHOLE: dict[Kind, dict[str, Any]] = {
    Hello: HELLO,
    Welcome: WELCOME,
    Refusal: REFUSAL,
    GoAway: GOAWAY,
    Error: REFUSAL,
}

maps = st.one_of(
    st.builds(
        Hello,
        token=texts,
        device=texts,
        role=st.sampled_from(["down", "up", "both"]),
        client=texts,
        resume=st.none() | st.builds(Resume, epoch=texts, seq=counts),
        accepts=st.lists(st.text(st.characters(codec="utf-8"), max_size=16), max_size=8),
        fresh=st.sampled_from(["oldest", "head"]),
        poll_ms=st.none() | millis,
        carrier=texts,
        pad=st.none() | st.integers(0, 4096),
        nonce=st.just(msgspec.UNSET) | texts,
    ),
    st.builds(
        Welcome,
        session=texts,
        user=texts,
        node=texts,
        epoch=texts,
        head=counts,
        first=counts,
        resumed=st.booleans(),
        accepted=counts,
        heartbeat=st.tuples(seconds, seconds),
        idle_s=seconds,
        max_frame=st.integers(1, 2**24),
        time_ms=millis,
        nonce=st.just(msgspec.UNSET) | texts,
    ),
    st.builds(Refusal, code=texts, text=texts, retry_ms=st.none() | millis),
    st.builds(GoAway, code=texts, drain_ms=millis, spread_ms=millis, endpoints=st.lists(texts, max_size=4)),
    st.builds(Error, code=texts, text=texts, retry_ms=st.none() | millis, nonce=st.just(msgspec.UNSET) | texts),
)


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


@given(maps)
def test_a_map_comes_back_as_it_was(value: Hello | Welcome | Refusal | GoAway | Error) -> None:
    kind: Kind = type(value)
    assert unpack(pack(value), kind) == value


@given(st.sampled_from(KINDS), st.binary(max_size=100))
def test_any_bytes_are_a_map_or_refused(kind: Kind, body: bytes) -> None:
    try:
        assert type(unpack(body, kind)) is kind
    except BadHello:
        return


@given(st.sampled_from(KINDS), st.data())
def test_a_map_with_any_value_in_any_place_is_a_map_or_refused(kind: Kind, data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary() | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts | st.integers(0, 9), inner),
        max_leaves=5,
    )
    body = dict(WHOLE[kind])
    body[data.draw(st.sampled_from([*body, "another", "resume", "accepts"]))] = data.draw(values)
    try:
        assert type(unpack(packed(body), kind)) is kind
    except BadHello:
        return


@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_we_do_not_know_are_ignored(kind: Kind) -> None:
    assert unpack(packed({**WHOLE[kind], "new": {"a": [1, b"", None, 2.5]}}), kind) == unpack(packed(WHOLE[kind]), kind)


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, field.name) for kind in KINDS for field in msgspec.structs.fields(kind) if field.required],
)
def test_a_key_that_is_missing_is_named(kind: Kind, key: str) -> None:
    body = dict(WHOLE[kind])
    del body[key]
    with pytest.raises(BadHello, match=f"^{kind.__name__}: .*`{key}`"):
        unpack(packed(body), kind)


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, field.name) for kind in KINDS for field in msgspec.structs.fields(kind)]
)
@pytest.mark.parametrize("wrong", [b"bytes", 2.5, {"a": 1}, [None], -1])
def test_a_value_of_the_wrong_type_is_named(kind: Kind, key: str, wrong: object) -> None:
    with pytest.raises(BadHello, match=f"^{kind.__name__}: .*{key}") as met:
        unpack(packed({**WHOLE[kind], key: wrong}), kind)
    assert met.value.code == "bad_hello"


@pytest.mark.parametrize(
    ("key", "most"), [("token", 2048), ("device", 64), ("client", 255), ("carrier", 64), ("nonce", 64)]
)
def test_strings_have_limits(key: str, most: int) -> None:
    assert getattr(unpack(packed({**HELLO, key: "é" * most}), Hello), key) == "é" * most
    with pytest.raises(BadHello, match=f"length <= {most} - at `\\$.{key}`"):
        unpack(packed({**HELLO, key: "x" * (most + 1)}), Hello)


def test_accepts_is_a_short_list_of_short_names() -> None:
    assert unpack(packed({**HELLO, "accepts": ["x" * 16] * 8}), Hello).accepts == ["x" * 16] * 8
    for wrong in (["x"] * 9, ["x" * 17]):
        with pytest.raises(BadHello, match="accepts"):
            unpack(packed({**HELLO, "accepts": wrong}), Hello)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("role", "sideways"),
        ("fresh", "newest"),
        ("poll_ms", -1),
        ("poll_ms", 2**64 - 1),
        ("pad", -1),
        ("pad", 4097),
        ("resume", {"epoch": "e"}),
        ("resume", {"epoch": "e", "seq": -1}),
        ("resume", {"epoch": "e" * 65, "seq": 1}),
        ("resume", {"epoch": "e", "seq": 1.0}),
    ],
)
def test_a_hello_out_of_bounds_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(BadHello, match=key):
        unpack(packed({**HELLO, key: wrong}), Hello)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("heartbeat", [0, 270]),
        ("heartbeat", [30]),
        ("heartbeat", [30, 270, 1]),
        ("heartbeat", [30, 65536]),
        ("max_frame", 0),
        ("max_frame", 2**24 + 1),
        ("head", -1),
        ("idle_s", -1),
    ],
)
def test_a_welcome_out_of_bounds_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(BadHello, match=key):
        unpack(packed({**WELCOME, key: wrong}), Welcome)


def test_the_defaults_are_the_wires() -> None:
    hello = unpack(packed(HELLO), Hello)
    assert (hello.resume, hello.accepts, hello.fresh, hello.poll_ms) == (None, [], "oldest", None)
    assert unpack(packed({**HELLO, "resume": None}), Hello) == hello
    assert unpack(packed({"code": "slow", "text": ""}), Error).retry_ms is None


def test_a_sequence_number_may_be_the_highest_there_is() -> None:
    assert unpack(packed({**HELLO, "resume": {"epoch": "e", "seq": 2**64 - 1}}), Hello).resume == Resume("e", 2**64 - 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x90", id="an array"),
        pytest.param(b"\xc1", id="the byte that MessagePack never uses"),
        pytest.param(b"\x81\x01\x01", id="a key that is no string"),
        pytest.param(b"\x81\xa4code\xa2\xff\xff", id="text that is no UTF-8"),
        pytest.param(b"\x81\xa1x" + b"\x91" * 4000 + b"\x90", id="arrays in arrays"),
        pytest.param(b"\x81\xa1x" + b"\x81\xa1x" * 1300 + b"\x90", id="maps in maps"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a promise of many keys"),
        pytest.param(b"\x81\xa4code\xdb\xff\xff\xff\xff", id="a promise of a long string"),
        pytest.param(b"\x81\xa9endpoints\xdd\xff\xff\xff\xff", id="a promise of a long list"),
    ],
)
def test_what_is_no_such_map_is_refused(kind: Kind, body: bytes) -> None:
    with pytest.raises(BadHello, match=kind.__name__):
        unpack(body, kind)


def test_bytes_behind_the_map_are_refused() -> None:
    with pytest.raises(BadHello, match="trailing"):
        unpack(packed(HELLO) + b"\xc0", Hello)


def test_a_long_value_is_not_quoted_in_full_and_the_key_still_is() -> None:
    with pytest.raises(BadHello, match=r"`\$\.role`") as met:
        unpack(packed({**HELLO, "role": "x" * 4000}), Hello)
    assert len(str(met.value)) < 300
