"""What is met on the way has a name, and a sentence for people."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from imcore._tunnel import ResponseHead
from imcore.ways.outcomes import Outcome, met, of_error, of_head


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (socket.gaierror(-2, "Name or service not known"), Outcome.NO_NAME),
        (OSError("'' is not a name that can be looked up"), Outcome.NO_NAME),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), Outcome.UNREACHABLE),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Outcome.REFUSED),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), Outcome.CLOSED),
        (TimeoutError("127.0.0.1 did not answer"), Outcome.SILENT),
        (untrusted(18), Outcome.TLS_UNTRUSTED),
        (untrusted(10), Outcome.TLS_EXPIRED),
        (untrusted(62), Outcome.TLS_NAME),
        (ssl.SSLError("wrong version number"), Outcome.TLS_BROKEN),
    ],
)
def test_an_error_of_a_connection_has_a_name(error: OSError, outcome: Outcome) -> None:
    assert of_error(error) is outcome


def test_each_sentence_says_something_of_its_own() -> None:
    assert len({outcome.value for outcome in Outcome}) == len(Outcome.__members__)


def test_a_freeze_says_after_how_many_bytes() -> None:
    error = met(Outcome.FROZEN, after=16384)
    assert error.outcome == "FROZEN_AFTER_16384"
    assert str(error) == f"FROZEN_AFTER_16384: {Outcome.FROZEN.value}"


def test_a_gateways_head_is_none_of_them() -> None:
    head = [(b"content-type", b"Application/Octet-Stream; x=y"), (b"age", b"0"), (b"content-encoding", b"identity")]
    assert of_head(ResponseHead(200, b"OK", b"1.1", head)) is None


def test_what_others_say_is_made_harmless() -> None:
    error = of_head(ResponseHead(302, b"Found", b"1.1", [(b"location", b"\x1b[2J\xff" * 100)]))
    assert error is not None
    assert error.outcome == "PORTAL"
    assert str(error).isprintable()
    assert len(str(error)) < 300
