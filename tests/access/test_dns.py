"""The DNS faces answer the gateway's own names, refuse all others, and say FORMERR to what is no query."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imcore.access.dns import ANSWERS_MOST, Names
from imcore.access.settings import Name
from imcore.access_list import AccessPoint, Direction, Port

NAMES = Names([Name(name="im.example.com"), Name(name="Up.example.com", role="up")], ttl_s=120)
POINTS = [
    AccessPoint("b", ["192.0.2.2", "2001:db8::2"], [Port(443, ["tls"])]),
    AccessPoint("a", ["192.0.2.1", "192.0.2.2"], [Port(443, ["tls"])]),
]


def order(role: Direction) -> list[AccessPoint]:
    return POINTS if role == "down" else POINTS[1:]


def ask(name: str, kind: str = "A", **more: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)
    answer = dns.message.from_wire(NAMES.answer(query.to_wire(), order)[0])
    assert query.is_response(answer)
    return answer


def texts(answer: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in answer.answer for record in rrset]


class TestOwnNames:
    def test_are_answered_in_the_lists_order(self) -> None:
        answer = ask("im.example.com")
        assert answer.rcode() == dns.rcode.NOERROR
        assert {tuple(texts(ask("im.example.com"))) for _ in range(20)} == {("192.0.2.2", "192.0.2.1")}
        assert answer.answer[0].ttl == 120
        assert answer.flags & dns.flags.AA
        assert not answer.flags & dns.flags.RA

    def test_have_addresses_of_both_families(self) -> None:
        assert texts(ask("im.example.com", "AAAA")) == ["2001:db8::2"]

    def test_stand_for_a_direction(self) -> None:
        assert texts(ask("up.example.com")) == ["192.0.2.1", "192.0.2.2"]

    def test_are_the_same_in_upper_and_lower_case_and_come_back_as_asked(self) -> None:
        answer = ask("iM.eXample.Com")
        assert len(texts(answer)) == 2
        assert answer.answer[0].name.to_text() == "iM.eXample.Com."

    @pytest.mark.parametrize("kind", ["MX", "TXT", "HTTPS", "ANY", "NS", "SOA"])
    def test_have_nothing_of_another_type(self, kind: str) -> None:
        answer = ask("im.example.com", kind)
        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])

    def test_of_one_family_only_have_nothing_of_the_other(self) -> None:
        answer = ask("up.example.com", "AAAA")
        assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])

    def test_are_answered_with_a_few_addresses_of_many(self) -> None:
        many = [AccessPoint(str(n), [f"192.0.2.{n}"], [Port(1, ["tcp"])]) for n in range(50)]
        assert NAMES.addresses("im.example.com", 4, lambda role: many) == [f"192.0.2.{n}" for n in range(ANSWERS_MOST)]

    def test_are_answered_with_edns_too(self) -> None:
        assert len(texts(ask("im.example.com", use_edns=0, payload=1232, want_dnssec=True))) == 2


class TestEverythingElse:
    @pytest.mark.parametrize(
        "name", ["example.com", "x.im.example.com", "im.example.com.evil.example", ".", "localhost"]
    )
    def test_another_name_is_refused(self, name: str) -> None:
        answer = ask(name)
        assert (answer.rcode(), answer.answer) == (dns.rcode.REFUSED, [])

    def test_another_class_is_refused(self) -> None:
        assert ask("im.example.com", rdclass="CH").rcode() == dns.rcode.REFUSED

    @pytest.mark.parametrize("opcode", [dns.opcode.NOTIFY, dns.opcode.UPDATE, dns.opcode.STATUS])
    def test_another_operation_is_not_implemented(self, opcode: dns.opcode.Opcode) -> None:
        query = dns.message.make_query("im.example.com", "A")
        query.set_opcode(opcode)
        answer = dns.message.from_wire(NAMES.answer(query.to_wire(), order)[0], ignore_trailing=True)
        assert answer.rcode() in (dns.rcode.NOTIMP, dns.rcode.FORMERR)

    def test_another_version_of_edns_is_named(self) -> None:
        query = dns.message.make_query("im.example.com", "A", use_edns=1)
        assert dns.message.from_wire(NAMES.answer(query.to_wire(), order)[0]).rcode() == dns.rcode.BADVERS

    def test_an_answer_is_not_answered_as_a_query(self) -> None:
        response = dns.message.make_response(dns.message.make_query("im.example.com", "A"))
        assert rcode(response.to_wire()) == dns.rcode.FORMERR

    def test_a_query_for_two_names_is_none(self) -> None:
        query = dns.message.make_query("im.example.com", "A")
        query.question += dns.message.make_query("up.example.com", "A").question
        assert rcode(query.to_wire()) == dns.rcode.FORMERR

    def test_what_is_no_query_has_its_number_in_the_answer(self) -> None:
        assert NAMES.answer(b"\xab\xcd junk", order) == (b"\xab\xcd\x80\x01" + bytes(8), False)
        assert NAMES.answer(b"", order) == (b"\0\0\x80\x01" + bytes(8), False)


def rcode(query: bytes) -> int:
    """Of the answer, whose head at least is in order and which is an answer."""
    answer, _ = NAMES.answer(query, order)
    assert len(answer) >= 12
    assert answer[:2] == query[:2].ljust(2, b"\0")
    assert answer[2] & 0x80
    return answer[3] & 15


QUERY = dns.message.make_query("im.example.com", "A", use_edns=0).to_wire()


@given(st.binary(max_size=300))
@example(bytes(12))
@example(b"\0" * 5 + b"\1" + b"\0" * 6 + b"\xc0\x0c\0\1\0\1")  # a name that points to itself
def test_any_bytes_get_an_answer(query: bytes) -> None:
    assert rcode(query) in (dns.rcode.FORMERR, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.NOERROR)


@given(st.lists(st.tuples(st.integers(0, len(QUERY) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(QUERY)))
def test_a_query_with_changed_bytes_gets_an_answer(changes: list[tuple[int, int]], end: int) -> None:
    query = bytearray(QUERY)
    for at, value in changes:
        query[at] = value
    for changed in (bytes(query), bytes(query[:end]), bytes(query) + bytes(query[:end])):
        assert rcode(changed) in (dns.rcode.FORMERR, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.NOERROR)
