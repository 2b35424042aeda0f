"""What anybody may answer on the way in is a proof or a `BadProof`, addresses or a `WayError`; nothing else."""

import sys

import atheris

with atheris.instrument_imports(include=["imcore.proof", "imcore.ways.doh"]):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from imcore.errors import BadProof, WayError
    from imcore.proof import fill_page, probe_page, read_fill, read_probe
    from imcore.ways.doh import read_reply, write_query

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = [KEY.public_key()]
GOOD = [probe_page("gw", "n", KEY), fill_page("gw", "n", 2048, KEY)]


def attempt(page: bytes, *, good: bool, long: bool) -> None:
    try:
        if long:
            read_fill(page, "n", 2048, KEYS)
        else:
            read_probe(page, "n", KEYS)
    except BadProof as error:
        if len(str(error)) > 300:
            raise AssertionError("the text quotes too much") from error
    else:
        assert good, "only what was signed passes"


def target(data: bytes) -> None:
    for long, page in enumerate(GOOD):
        attempt(data, good=False, long=bool(long))
        at = data[0] * 4 % len(page) if data else 0
        mixed = page[:at] + data + page[at + len(data) :]
        attempt(mixed, good=mixed == page, long=bool(long))
    for reply in (data, write_query("im.example.com", "A")[:12] + data):
        try:
            found = read_reply(reply, "im.example.com", "A")
        except WayError as error:
            if len(str(error)) > 300:
                raise AssertionError("the text quotes too much") from error
        else:
            assert all(isinstance(address, str) for address in found)


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
