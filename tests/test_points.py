"""Access points are read as they are written, and what is not one is named with what was expected."""

from __future__ import annotations

import contextlib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import ConfigError
from imcore.points import Point, Scheme, parse_point, parse_points

hosts = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@given(st.sampled_from(get_args(Scheme)), hosts, st.integers(1, 65535))
def test_a_point_is_read_as_it_is_written(scheme: Scheme, host: str, port: int) -> None:
    point = Point(scheme, host, port)
    assert parse_point(str(point)) == point


@given(st.text())
def test_any_text_is_a_point_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        point = parse_point(text)
        assert parse_point(str(point)) == point
        assert 1 <= point.port <= 65535


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("127.0.0.1:9000", Point("tcp", "127.0.0.1", 9000)),
        ("tcp://im.example.com:80", Point("tcp", "im.example.com", 80)),
        ("tls://im.example.com:443", Point("tls", "im.example.com", 443)),
        ("im.example.com", Point("tcp", "im.example.com", 8080)),
        ("[::1]", Point("tcp", "::1", 8080)),
        ("tls://[2001:db8::1]:443", Point("tls", "2001:db8::1", 443)),
        ("http://im.example.com", Point("http", "im.example.com", 80)),
        ("https://im.example.com", Point("https", "im.example.com", 443)),
        ("http://[::1]:8080", Point("http", "::1", 8080)),
        ("[fe80::1%eth0]:1", Point("tcp", "fe80::1%eth0", 1)),
    ],
)
def test_each_form_is_understood(text: str, point: Point) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp://im.example.com", "expected tcp://, tls://, http:// or https://, got ftp://"),
        ("127.0.0.1:0", "expected a port from 1 to 65535, got '0'"),
        ("127.0.0.1:65536", "expected a port from 1 to 65535, got '65536'"),
        ("127.0.0.1:", "expected a port from 1 to 65535, got ''"),
        ("127.0.0.1:٨٠", "expected a port from 1 to 65535"),
        ("im:" + "9" * 5000, "expected a port from 1 to 65535"),
        ("::1", "an IPv6 address in brackets"),
        ("[im.example.com]:80", "expected an IPv6 address in the brackets, got 'im.example.com'"),
        ("", "expected a host, got ''"),
        (":80", "expected a host, got ''"),
        ("im.example.com:80/path", "expected"),
        ("im..example.com:80", "expected a host, got 'im..example.com'"),
        ("x" * 64 + ".example.com", "expected a host"),
        ("im\x00.example.com", "expected a host"),
        ("im.example\N{FULLWIDTH SOLIDUS}com", "expected a host"),
    ],
)
def test_what_is_wrong_is_named(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_point(text)
    assert expected in str(caught.value)


@given(st.text())
def test_any_host_that_is_read_has_a_name_that_fits_a_line(text: str) -> None:
    with contextlib.suppress(ConfigError):
        name = parse_point(text).name
        assert name.isascii()
        assert name.isprintable()
        assert " " not in name


def test_others_are_told_a_name_in_ascii_and_no_zone() -> None:
    assert parse_point("bücher.example:80").name == "xn--bcher-kva.example"
    assert parse_point("[fe80::1%eth0]:80").name == "fe80::1"


def test_a_list_of_points_keeps_its_order_and_loses_its_repeats() -> None:
    assert parse_points(["b:8080", "a:1", "tcp://b:8080"]) == [Point("tcp", "b", 8080), Point("tcp", "a", 1)]


def test_a_point_without_a_port_stands_for_all_that_are_likely_to_pass() -> None:
    points = parse_points(["im.example.com"])
    assert {point.port for point in points} == {80, 8080, 443, 14000}
    assert {point.scheme for point in points} == {"tcp", "tls", "http", "https"}
    assert all(point.secure == (point.port == 443) for point in points)


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_and_one_with_a_scheme_never_for_another_way(scheme: Scheme) -> None:
    points = parse_points([f"{scheme}://im.example.com"])
    assert {point.scheme for point in points} == {scheme}
    assert {point.port for point in points} == {80, 8080, 443, 14000}
    assert parse_point(f"{scheme}://im.example.com") == points[0]


@pytest.mark.parametrize("points", [[], "127.0.0.1:9000"])
def test_no_points_and_a_bare_string_are_refused(points: list[str] | str) -> None:
    with pytest.raises(ConfigError, match="access points: expected"):
        parse_points(points)
