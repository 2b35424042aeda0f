"""What a stranger shows at the door, a token, a link to a file or the question for a silence, is refused by the one
error that says so; and what is granted is what was asked for.

The fuzzer's bytes are also a token's header, and stand in the middle of good ones: the first says where.
"""

import contextlib
import sys
from urllib.parse import urlencode

import atheris

with atheris.instrument_imports(include=["imcore.gateway.auth", "imcore.gateway.still", "imcore.media.links", "jwt"]):
    import jwt
    from jwt.utils import base64url_encode

    from imcore.errors import Unauthorized
    from imcore.gateway.auth import jwt_authenticator
    from imcore.gateway.still import read_still
    from imcore.media.links import Keys
    from imcore.media.refusal import Refusal

SECRET = "a secret that is long enough for HS256"
LAST_S = 2**40
TOKEN = jwt.encode({"sub": "alice", "exp": LAST_S}, SECRET)
FILE = "0123456789abcdef" * 2
KEYS = Keys(bytes(32))
LINK = KEYS.query(FILE, LAST_S)
QUESTION = b"n=abc-_9&ms=60000"
MOST_S = 600

authenticate = jwt_authenticator([SECRET])


def inside(good: str, text: str) -> str:
    at = ord(text[0]) % len(good) if text else 0
    return good[:at] + text[1:] + good[at + len(text[1:]) :]


def show_token(token: str) -> None:
    with contextlib.suppress(Unauthorized):
        assert authenticate(token) == "alice"
        assert jwt.decode(token, SECRET, algorithms=["HS256"])["sub"] == "alice"


def show_link(until: str, sign: str) -> None:
    with contextlib.suppress(Refusal):
        KEYS.check(FILE, until, sign, 0)
        assert KEYS.query(FILE, int(until)) == f"until={int(until)}&sign={sign}"


def ask(query: bytes) -> None:
    try:
        nonce, silence_ms = read_still(query, MOST_S)
    except ValueError:
        return
    assert 1 <= silence_ms <= MOST_S * 1000
    assert read_still(urlencode({"ms": silence_ms, "n": nonce}).encode(), MOST_S) == (nonce, silence_ms)


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for token in (text, inside(TOKEN, text), f"{base64url_encode(data).decode()}.e30.x"):
        show_token(token)
    until, _, sign = inside(LINK, text).removeprefix("until=").partition("&sign=")
    show_link(until, sign)
    show_link(str(LAST_S), text)
    assert not KEYS.shared(FILE, text)
    ask(data)
    ask(inside(QUESTION.decode(), data.decode("latin-1")).encode("latin-1"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
