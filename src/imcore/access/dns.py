"""The DNS faces: the gateway's own names in the order that the caller's list has, by DNS over HTTPS and by plain HTTP.

Never an open resolver: other names are refused. Whatever comes is answered; nothing is asked of anybody else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from ..access_list import AccessPoint, Direction
from .settings import Name

__all__ = ["QUERY_MOST", "Names"]

QUERY_MOST = 4096
"""Bytes of a query."""
ANSWERS_MOST = 8
"""Addresses in one answer."""
_HEADER = 12

Order = Callable[[Direction], Sequence[AccessPoint]]
"""The points for the caller, the best first."""


class Names:
    """names: that are answered. ttl_s: how long an answer may be kept, seconds."""

    def __init__(self, names: Sequence[Name], ttl_s: int) -> None:
        self._roles = {each.name.lower(): each.role for each in names}
        self.ttl_s = ttl_s

    def addresses(self, name: str, version: int, order: Order) -> list[str] | None:
        """The addresses of one family (4 or 6) behind a name, the best first. None: the name is not ours."""
        role = self._roles.get(name.lower().removesuffix("."))
        if role is None:
            return None
        found = [address for point in order(role) for address in point.addresses]
        return [a for a in dict.fromkeys(found) if ipaddress.ip_address(a).version == version][:ANSWERS_MOST]

    def answer(self, query: bytes, order: Order) -> tuple[bytes, bool]:
        """The answer to a query in DNS's own format (RFC 1035, RFC 8484), and whether it may be kept for `ttl_s`."""
        try:
            asked = dns.message.from_wire(query)
            answer = dns.message.make_response(asked, recursion_available=False)
        except (dns.exception.DNSException, ValueError):
            return _form_error(query), False
        if asked.edns > 0:
            answer.set_rcode(dns.rcode.BADVERS)
        elif asked.opcode() != dns.opcode.QUERY:
            answer.set_rcode(dns.rcode.NOTIMP)
        elif len(asked.question) != 1:
            return _form_error(query), False
        else:
            self._fill(answer, asked.question[0], order)
        return answer.to_wire(want_shuffle=False), answer.rcode() == dns.rcode.NOERROR

    def _fill(self, answer: dns.message.Message, question: dns.rrset.RRset, order: Order) -> None:
        version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(question.rdtype, 0)
        found = self.addresses(question.name.to_text(), version, order)
        if found is None or question.rdclass != dns.rdataclass.IN:
            answer.set_rcode(dns.rcode.REFUSED)
            return
        answer.flags |= dns.flags.AA
        if found:  # else the name is there, and has nothing of that type
            answer.answer.append(dns.rrset.from_text_list(question.name, self.ttl_s, "IN", question.rdtype, found))


def _form_error(query: bytes) -> bytes:
    """To bytes that are no query: its number, if it has one, that this is an answer, and FORMERR."""
    return query[:2].ljust(2, b"\0") + b"\x80\x01".ljust(_HEADER - 2, b"\0")
