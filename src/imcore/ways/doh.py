"""Questions of DNS over HTTPS (RFC 8484), and what their answers say. Bytes in and out; it asks nobody."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from .outcomes import Outcome, met

__all__ = ["DOH_PATH", "DOH_TYPE", "read_reply", "write_query"]

DOH_PATH = "/dns-query"
DOH_TYPE = "application/dns-message"


def write_query(name: str, kind: str) -> bytes:
    """The question for a name's addresses; kind: `A` or `AAAA`. Its id is 0, as RFC 8484, 4.1 advises."""
    try:
        return dns.message.make_query(name, kind, id=0).to_wire()
    except dns.exception.DNSException as error:
        raise met(Outcome.NO_NAME, f"{name!r}: {error}") from None


def read_reply(data: bytes, name: str, kind: str) -> list[str]:
    """The addresses in an answer; there may be none. Raises `WayError` for what does not answer this question."""
    try:
        reply = dns.message.from_wire(data)
        asked = [(one.name, one.rdtype) for one in reply.question]
        if asked != [(dns.name.from_text(name), dns.rdatatype.from_text(kind))]:
            raise met(Outcome.HIJACK, "the answer is to another question")
        found = reply.resolve_chaining().answer if isinstance(reply, dns.message.QueryMessage) else None
    except dns.exception.DNSException as error:
        raise met(Outcome.HIJACK, f"no answer of DNS: {type(error).__name__}") from None
    return [str(item) for item in found or ()]
