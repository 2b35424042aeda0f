"""Names become addresses by the system, by DNS over HTTPS, or not at all; nobody waits longer than he wants to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imcore.errors import WayError
from imcore.ways.doh import read_reply, write_query
from imcore.ways.resolve import is_address, system

NAME = "im.example.com"


def reply(*records: str, name: str = NAME, kind: str = "A") -> bytes:
    made = dns.message.make_response(dns.message.from_wire(write_query(name, kind)))
    for record in records:
        owner, kind, data = record.split(" ", 2)
        made.answer.append(dns.rrset.from_text(f"{owner}.", 60, "IN", kind, data))
    return made.to_wire()


class TestTheSystem:
    def test_knows_this_machine(self) -> None:
        found = asyncio.run(system("localhost"))
        assert found
        assert all(is_address(address) for address in found)

    @pytest.mark.parametrize("name", ["nowhere.invalid", "x" * 64, "\N{SNOWMAN}" * 64])
    def test_says_what_it_does_not_know_as_an_os_error(self, name: str) -> None:
        with pytest.raises(OSError, match=r"."):
            asyncio.run(system(name))

    def test_may_hang_and_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done = threading.Event()

        def hang(*args: Any, **more: Any) -> Any:
            done.wait(20)
            raise OSError("at last")

        monkeypatch.setattr(socket, "getaddrinfo", hang)

        async def work() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await system(NAME)

        asyncio.run(work())  # returns although the thread still hangs
        done.set()


class TestOverHttps:
    def test_addresses_are_read(self) -> None:
        assert read_reply(reply(f"{NAME} A 192.0.2.1"), NAME, "A") == ["192.0.2.1"]
        assert read_reply(reply(f"{NAME} AAAA 2001:db8::1", kind="AAAA"), NAME, "AAAA") == ["2001:db8::1"]

    def test_through_another_name(self) -> None:
        data = reply(f"{NAME} CNAME gw.example.com.", "gw.example.com A 192.0.2.1")
        assert read_reply(data, NAME, "A") == ["192.0.2.1"]

    def test_there_may_be_none(self) -> None:
        assert read_reply(reply(), NAME, "A") == []

    def test_an_answer_to_another_question_is_a_strangers(self) -> None:
        with pytest.raises(WayError, match="HIJACK"):
            read_reply(reply("bank.example.com A 192.0.2.1", name="bank.example.com"), NAME, "A")

    def test_a_name_that_is_none_can_not_be_asked_for(self) -> None:
        with pytest.raises(WayError, match="NO_NAME"):
            write_query("a..b", "A")

    @given(st.binary(max_size=100), st.integers(0, 60))
    def test_any_bytes_are_addresses_or_named(self, noise: bytes, at: int) -> None:
        good = reply(f"{NAME} A 192.0.2.1")
        for data in (noise, good[:at] + noise + good[at + len(noise) :]):
            with contextlib.suppress(WayError):
                assert all(is_address(address) for address in read_reply(data, NAME, "A"))
