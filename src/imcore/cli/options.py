"""What the person's commands have in common: who they are, where the gateway is, and a client made of it."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import jwt
import msgspec

from ..client import Client, State
from ..errors import ConfigError
from ..reference import Reference
from .terminal import note
from .values import utf8

__all__ = ["POINTS", "Heard", "add_arguments", "client", "said", "state_path", "token_of"]

POINTS = ("127.0.0.1:8080", "127.0.0.1:9000")
"""Where a gateway for trials is likely to be, tried in order."""


class Heard(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """What the built-in chat service pushes."""

    sender: str
    text: str
    media: Reference | None = None


_heard = msgspec.json.Decoder(Heard)


def said(route: str, body: bytes) -> Heard | None:
    """The body of a message of the built-in chat service; None for any other."""
    if route == "chat":
        try:
            return _heard.decode(body)
        except msgspec.DecodeError:
            return None
    return None


def add_arguments(parser: argparse.ArgumentParser, device: str, *, remembers: bool) -> None:
    """Who and where. device: the device's name unless another one is given. remembers: it has a place in the inbox."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--as", dest="user", type=utf8, metavar="NAME", help="the user, where the gateway is anonymous")
    who.add_argument(
        "--token", type=utf8, metavar="TOKEN", help="the user's token; better in the variable IMCORE_TOKEN"
    )
    add_ways(parser)
    parser.add_argument(
        "--device",
        type=utf8,
        default=device,
        metavar="NAME",
        help="name of this device, for one process at a time (%(default)s)",
    )
    if remembers:
        parser.add_argument(
            "--state", metavar="FILE", help="where it remembers how far it came (a file for each user and device in "
            "~/.local/state/imcore)"
        )  # fmt: skip


def add_ways(parser: argparse.ArgumentParser) -> None:
    """Where the gateways are, and how they are known."""
    parser.add_argument(
        "--point",
        action="append",
        metavar="HOST:PORT",
        help="where the gateway is; tls://HOST:PORT for TLS, http:// and https:// through the HTTP tunnel; "
        "repeatable, raced if there is a key, else tried in order "
        f"(the variable IMCORE_POINT, or {' and '.join(POINTS)})",
    )
    parser.add_argument(
        "--access", action="append", default=[], metavar="HOST:PORT", help="where an access service is; repeatable"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="public key that gateways and the access service are known by: a PEM file, or base64; repeatable",
    )
    parser.add_argument("--memory", metavar="FILE", help="where it is kept which ways in were good")
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="http:// or socks5://HOST:PORT to go through, always; `none` for none "
        "(the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY)",
    )


def points(args: argparse.Namespace) -> list[str]:
    """The access points that the arguments, the environment, or trials name."""
    named = args.point or os.environ.get("IMCORE_POINT", "").replace(",", " ").split()
    return list(named or ([] if args.access else POINTS))


def keys(args: argparse.Namespace) -> list[str]:
    """The public keys, as text. Raises `ConfigError`."""
    return [_key(word) if word.endswith(".pem") else word for word in args.key]


def _key(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"--key {name}: expected a file with a public key in PEM: {why}") from None


def proxy(args: argparse.Namespace) -> str | bool:
    """As `Client` takes it."""
    return True if args.proxy is None else args.proxy != "none" and str(args.proxy)


def client(args: argparse.Namespace, *, receive: bool = True) -> Client:
    """The client that the arguments ask for; receive: False = it only sends. It tells the person when the way is lost,
    and when it is found again."""
    token = token_of(args)
    if not 0 < len(args.device) <= 64:
        raise ConfigError(f"--device: expected 1 to 64 characters, got {len(args.device)}")
    if args.access and not args.key:
        raise ConfigError(
            "--access: expected --key too: a list is believed only if it is signed by a key that is known"
        )
    state = state_path(args, token) if "state" in args else None
    media = getattr(args, "media_point", None)
    return Client(
        points(args),
        token,
        args.device,
        access=args.access,
        keys=keys(args),
        memory=args.memory,
        state=state,
        on_state=_teller(),
        receive=receive,
        media=media,
        proxy=proxy(args),
    )


def token_of(args: argparse.Namespace) -> str:
    """Who it is. Raises `ConfigError`."""
    token = args.token or args.user or os.environ.get("IMCORE_TOKEN")
    if not token:
        raise ConfigError("who is it? expected --as NAME, --token TOKEN or the variable IMCORE_TOKEN")
    return str(token)


def _teller() -> Callable[[State, str], None]:
    away = False

    def tell(state: State, text: str) -> None:
        nonlocal away
        if state is State.WAITING and not away:
            away = True
            note(text)
        elif state is State.OPEN and away:
            away = False
            note(text)

    return tell


def state_path(args: argparse.Namespace, token: str) -> Path:
    """The file in which this user's device remembers its place in the inbox."""
    if args.state is not None:
        return Path(args.state)
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "imcore"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{base}: {error.strerror}; name a file with --state") from None
    user = args.user if args.token is None and args.user else _subject(token)
    # Names are any text, file names are not; the digest keeps apart what looks alike without what was left out.
    name = f"{user}\0{args.device}"
    return base / f"{re.sub(r'[^A-Za-z0-9]', '', user)[:32]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.sqlite"


def _subject(token: str) -> str:
    """Whom the token speaks of, as it says itself: it only names a file. The gateway says who it really is."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return token
    return str(claims.get("sub", token))
