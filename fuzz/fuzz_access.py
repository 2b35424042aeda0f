"""What the access service reads from strangers: DNS queries are answered with FORMERR, REFUSED, NOTIMP or the truth,
reports are reports or refused with 400, a header names an address, and a list is ours or a `BadList`; nothing else.

The fuzzer's bytes also stand in the middle of a good query and a good report: the first one says where.
"""

import contextlib
import ipaddress
import sys

import atheris

with atheris.instrument_imports(include=["dns", "imcore.access", "imcore.access_list"]):
    from aiohttp import web
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from jwt.utils import base64url_encode

    from imcore.access.carriers import Prefixes, exit_address
    from imcore.access.dns import Names
    from imcore.access.server import read_report
    from imcore.access.settings import Name
    from imcore.access_list import AccessList, AccessPoint, Port, key_id, open_list, sign_list
    from imcore.errors import BadList

NAMES = Names([Name(name="im.example.com")], 60)
POINTS = [AccessPoint("a", ["192.0.2.1", "2001:db8::1"], [Port(443, ["tls"])])]
PROXIES = Prefixes([("10.0.0.0/8", True)])
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
SIGNED = AccessList("up", 1_000, 1_300, 150, POINTS)
LIST = sign_list(SIGNED, KEY)
QUERY = bytes.fromhex("abcd01000001000000000001026d6d076578616d706c6503636f6d000001000100002904d0000000000000")
REPORT = b'{"device":"d","role":"up","measured":[{"point":"a","port":443,"way":"tls","outcome":"OK","whole_ms":9}]}'
RCODES = {0, 1, 4, 5}  # the truth, FORMERR, NOTIMP, REFUSED


def inside(good: bytes, data: bytes) -> bytes:
    at = data[0] % len(good) if data else 0
    return good[:at] + data[1:] + good[at + len(data[1:]) :]


def target(data: bytes) -> None:
    for query in (data, inside(QUERY, data)):
        answer, _ = NAMES.answer(query, lambda role: POINTS)
        assert len(answer) >= 12
        assert answer[:2] == query[:2].ljust(2, b"\0")
        assert answer[2] & 0x80
        assert answer[3] & 15 in RCODES
    for report in (data, inside(REPORT, data)):
        with contextlib.suppress(web.HTTPBadRequest):
            read_report(report)
    text = data.decode("latin-1")
    ipaddress.ip_address(exit_address("10.0.0.1", [text], PROXIES))
    assert exit_address("192.0.2.1", [text], PROXIES) == "192.0.2.1"
    header, _, rest = LIST.partition(b".")
    for document in (data, inside(LIST, data), b"%b.%b" % (base64url_encode(data), rest), b"%b.%b" % (header, data)):
        with contextlib.suppress(BadList):
            assert open_list(document, KEYS, "up", 0) == SIGNED, "a list that nobody has signed"


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
