"""How a proxy is written, and which one the environment names for a point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import ConfigError
from imcore.points import Point
from imcore.ways.proxies import chooser
from imcore.ways.proxy import Proxy, from_environment, parse_proxy

TLS = Point("tls", "im.example.com", 443)
TCP = Point("tcp", "im.example.com", 8080)


class TestWriting:
    @pytest.mark.parametrize(
        ("text", "proxy"),
        [
            ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
            ("proxy.example", Proxy("http", "proxy.example", 8080)),
            ("http://proxy.example/", Proxy("http", "proxy.example", 8080)),
            ("HTTP://10.0.0.1:80", Proxy("http", "10.0.0.1", 80)),
            ("socks5://[::1]", Proxy("socks5", "::1", 1080)),
            ("socks5h://tor:9050", Proxy("socks5", "tor", 9050)),
            ("http://u:p@h:1", Proxy("http", "h", 1, "u", "p")),
            ("http://u@h:1", Proxy("http", "h", 1, "u", "")),
            ("http://a%40b:p%3A%2Fq%20@h:1", Proxy("http", "h", 1, "a@b", "p:/q ")),
            ("http://u:p@ss@h:1", Proxy("http", "h", 1, "u", "p@ss")),
            ("http://%C3%A4:%E2%82%AC@h:1", Proxy("http", "h", 1, "ä", "€")),
        ],
    )
    def test_is_understood(self, text: str, proxy: Proxy) -> None:
        assert parse_proxy(text) == proxy

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "expected http://host:port"),
            ("https://h:1", "expected http:// or socks5://, got https://"),
            ("ftp://h", "got ftp://"),
            ("http://", "expected"),
            ("http://h:0", "port from 1 to 65535"),
            ("http://h:65536", "port from 1 to 65535"),
            ("http://h:\uff11", "expected"),
            ("http://h/path", "expected"),
            ("http://h?x", "expected"),
            ("http://h\r\nX: y", "expected"),
            ("http://a%3Ab:c@h", "without a colon"),
            ("http://a%0D%0AX:c@h", "without control characters"),
            ("http://%ff:c@h", "in UTF-8"),
            ("socks5://%C3%A4:c@h", "255 ASCII characters"),
            ("socks5://" + "u" * 256 + ":c@h", "255 ASCII characters"),
            ("socks5://u@h", "a user and a password"),
        ],
    )
    def test_or_refused_in_words(self, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            parse_proxy(text)

    @given(st.text())
    def test_is_a_proxy_or_a_config_error_and_nothing_else(self, text: str) -> None:
        try:
            proxy = parse_proxy(text)
        except ConfigError:
            return
        assert parse_proxy(str(proxy)) == Proxy(proxy.scheme, proxy.host, proxy.port)
        assert proxy.fields.count(b"\r\n") == (proxy.user is not None)

    @pytest.mark.parametrize("text", ["http://u:secret@h:1", "ftp://u:secret@h", "http://u:secret@h:0"])
    def test_never_shows_a_password(self, text: str) -> None:
        try:
            shown = str(parse_proxy(text))
        except ConfigError as error:
            shown = str(error)
        assert "secret" not in shown

    def test_credentials_are_basic(self) -> None:
        assert Proxy("http", "h", 1, "Aladdin", "open sesame").fields == (
            b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"
        )
        assert Proxy("http", "h", 1).fields == b""


class TestTheEnvironment:
    @pytest.mark.parametrize(
        ("point", "environment", "host"),
        [
            (TLS, {}, None),
            (TLS, {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, "a"),
            (TLS, {"HTTP_PROXY": "b", "ALL_PROXY": "c"}, "c"),
            (TLS, {"HTTP_PROXY": "b"}, None),
            (TLS, {"https_proxy": "a", "HTTPS_PROXY": "b"}, "a"),
            (TLS, {"https_proxy": "", "HTTPS_PROXY": "b"}, None),  # emptied by hand
            (TCP, {"HTTPS_PROXY": "a", "HTTP_PROXY": "b", "ALL_PROXY": "c"}, "c"),
            (TCP, {"HTTPS_PROXY": "a", "HTTP_PROXY": "b"}, "a"),
            (TCP, {"HTTP_PROXY": "b"}, "b"),
            (TCP, {"HTTP_PROXY": "b", "REQUEST_METHOD": "GET"}, None),  # a CGI program: the request says it
            (TCP, {"http_proxy": "b", "REQUEST_METHOD": "GET"}, "b"),
        ],
    )
    def test_names_the_first_that_is_set(self, point: Point, environment: dict[str, str], host: str | None) -> None:
        proxy = from_environment(point, environment)
        assert (proxy and proxy.host) == host

    @pytest.mark.parametrize(
        ("host", "no_proxy", "covered"),
        [
            ("im.example.com", "*", True),
            ("im.example.com", "example.com", True),
            ("im.example.com", ".example.com", True),
            ("im.example.com", "*.example.com", True),
            ("example.com", ".example.com", True),
            ("im.example.com", "im.EXAMPLE.com", True),
            ("IM.example.com.", "im.example.com", True),
            ("badexample.com", "example.com", False),
            ("im.example.com", "other.org, example.com", True),
            ("im.example.com", "other.org example.com", True),
            ("im.example.com", "example.com:8080", True),
            ("im.example.com", "example.com:443", False),
            ("im.example.com", "im.example.com:99999999999", False),
            ("im.example.com", "", False),
            ("im.example.com", ". , .. *.", False),
            ("10.1.2.3", "10.0.0.0/8", True),
            ("10.1.2.3", "10.1.2.3", True),
            ("10.1.2.3", "10.1.2.3:8080", True),
            ("10.1.2.3", "10.1.2.3:80", False),
            ("10.1.2.3", "192.168.0.0/16", False),
            ("10.1.2.3", "2.3", False),
            ("fd00::1", "fd00::/8", True),
            ("fd00::1", "[fd00::1]", True),
            ("fd00::1", "[fd00::1]:8080", True),
            ("fd00::1", "fe80::/10", False),
            ("im.example.com", "10.0.0.0/8", False),
            ("localhost", "", True),
            ("127.0.0.1", "", True),
            ("::1", "", True),
        ],
    )
    def test_and_whom_it_is_not_for(self, host: str, no_proxy: str, covered: bool) -> None:
        point = Point("tcp", host, 8080)
        for name in ("no_proxy", "NO_PROXY"):
            assert (from_environment(point, {"ALL_PROXY": "p:1", name: no_proxy}) is None) is covered

    @given(st.text(), st.sampled_from(["im.example.com", "10.1.2.3", "fd00::1"]))
    def test_any_exceptions_can_be_read(self, no_proxy: str, host: str) -> None:
        from_environment(Point("tcp", host, 8080), {"ALL_PROXY": "p:1", "NO_PROXY": no_proxy})

    def test_a_value_that_is_none_is_told_with_its_variable(self) -> None:
        with pytest.raises(ConfigError, match=r"variable https_proxy.*got gopher://"):
            from_environment(TLS, {"HTTPS_PROXY": "gopher://h"})

    def test_what_is_given_counts_for_every_point_and_false_for_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "env:1")
        local = Point("tcp", "127.0.0.1", 1)
        assert [chooser(how)(TCP) for how in ("given:2", True, False)] == [
            Proxy("http", "given", 2), Proxy("http", "env", 1), None,
        ]  # fmt: skip
        assert chooser("given:2")(local) == Proxy("http", "given", 2)
