"""What is met on the way to an access point, by name: one list for all who look, from the race to the doctor.

A name says what stands in the way, its sentence says it to people. Only `OK` leads to a gateway.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from enum import Enum

from .._tunnel import ResponseHead
from ..errors import WayError

__all__ = ["Outcome", "WayFailed", "met", "of_error", "of_head", "reason"]

CONTENT_TYPE = b"application/octet-stream"


class Outcome(Enum):
    """The value is the sentence."""

    OK = "a gateway answered"

    NO_NAME = "the name can't be looked up"
    UNREACHABLE = "no network leads there"
    REFUSED = "nobody listens there, or something on the way refuses the connection"
    SILENT = "no answer came: something on the way drops what is sent, or nobody is there"
    CLOSED = "the connection was closed before an answer came"
    FROZEN = "the answer began, and then nothing came any more"

    PORTAL = "a page for people came: this network wants a login, or a consent, in a browser first"
    HIJACK = "somebody else answers at this address"
    CACHED = "an old answer came: a cache stands in the way"
    REWRITTEN = "the answer was changed on its way"
    TRUNCATED = "the answer was cut off"
    TOO_LARGE = "something on the way takes no requests of this size"

    TLS_UNTRUSTED = "the certificate is of nobody who is trusted: TLS is intercepted, or the authority is missing here"
    TLS_NAME = "the certificate is for another name: somebody else answers at this address"
    TLS_EXPIRED = "the certificate's time is over, or the clock here is wrong"
    TLS_BROKEN = "TLS did not come about: something on the way does not let it pass, or it is another service"

    PROXY_LOGIN = "the proxy wants a user name and a password, or others than those that were given"
    PROXY_FORBIDS = "the proxy does not let this pass"
    PROXY_LOST = "the proxy can't reach the access point"
    PROXY_BROKEN = "the proxy does not answer as a proxy"
    PROXY_REFUSED = "the proxy can't be reached"
    PROXY_SILENT = "the proxy does not say whether it lets this pass"


class WayFailed(OSError):
    """There is no connection, and what stands in the way has a name."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


def met(outcome: Outcome, detail: str = "", after: int = 0) -> WayError:
    """The error for it. detail: what exactly was seen. after: how many bytes had come by then."""
    name = f"{outcome.name}_AFTER_{after}" if outcome is Outcome.FROZEN else outcome.name
    return WayError(name, f"{outcome.value} ({detail})" if detail else outcome.value)


def of_error(error: OSError) -> Outcome:
    """What an error of a connection says."""
    if isinstance(error, WayFailed):
        return error.outcome
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            return Outcome.TLS_EXPIRED
        return Outcome.TLS_NAME if error.verify_code in (62, 64) else Outcome.TLS_UNTRUSTED  # …_HOSTNAME_/IP_MISMATCH
    if isinstance(error, ssl.SSLError):
        return Outcome.TLS_BROKEN
    if isinstance(error, socket.gaierror):
        return Outcome.NO_NAME
    if isinstance(error, TimeoutError):
        return Outcome.SILENT
    if isinstance(error, ConnectionRefusedError):
        return Outcome.REFUSED
    if isinstance(error, ConnectionError):
        return Outcome.CLOSED
    return Outcome.UNREACHABLE if error.errno in _AWAY else Outcome.NO_NAME


_AWAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)


def reason(error: OSError) -> str:
    """In words: asyncio's own repeat the address and leave out what the number means."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


_STATUSES = {
    401: Outcome.PROXY_LOGIN,  # tinyproxy's word for a wrong password; no gateway says it
    407: Outcome.PROXY_LOGIN,
    403: Outcome.PROXY_FORBIDS,
    451: Outcome.PROXY_FORBIDS,
    413: Outcome.TOO_LARGE,
    502: Outcome.PROXY_LOST,
    503: Outcome.PROXY_LOST,
    504: Outcome.PROXY_LOST,
    511: Outcome.PORTAL,
}
_PAGES = (b"text/html", b"text/vnd.wap", b"application/xhtml", b"application/vnd.wap", b"application/vnd.wml")


def of_head(head: ResponseHead, expected: bytes = CONTENT_TYPE) -> WayError | None:
    """None if a response's status and fields are those of a gateway's answer; else what they are those of. expected:
    its content type."""
    fields = dict(head.headers)
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    seen = f"status {head.status}, {_readable(kind) if kind else 'no content type'}"
    if head.status != 200:
        if 300 <= head.status < 400:
            return met(Outcome.PORTAL, f"{seen}, to {_readable(fields.get(b'location', b'nowhere'))}")
        return met(_STATUSES.get(head.status, Outcome.HIJACK), seen)
    if kind != expected:
        return met(Outcome.PORTAL if kind.startswith(_PAGES) else Outcome.HIJACK, seen)
    if fields.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return met(Outcome.REWRITTEN, f"encoded as {_readable(fields[b'content-encoding'])}")
    if fields.get(b"age", b"0").strip() != b"0":
        return met(Outcome.CACHED, f"{_readable(fields[b'age'])} s old")
    return None


def _readable(text: bytes) -> str:
    """What somebody else sent, for a person's eyes."""
    return re.sub(r"[^\x20-\x7e]", "?", text[:80].decode("latin-1"))
