"""The configuration of a node as typed structs, and its TOML file. Every key has a safe default.

What is wrong is a `ConfigError` that names the key, what was expected and what came, the line of the schema that says
so, and the nearest right key. Nothing here opens a socket or a database.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .access.settings import Access
from .errors import ConfigError
from .gateway import limits as gateway_limits
from .gateway import listeners
from .media import limits as media_limits
from .schema import convert, syntax_error

__all__ = [
    "S3",
    "Access",
    "Auth",
    "Bus",
    "Config",
    "Inbox",
    "Limits",
    "Listen",
    "Media",
    "Node",
    "Rooms",
    "Tls",
    "load",
    "parse",
]

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=1, le=3_162_240_000)]
"""Up to a hundred years: what is stored is a moment, and has to stay one."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class Node(_Section, frozen=True, kw_only=True):
    """`[node]`"""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="the node's name, told in WELCOME")] = "imcore"
    data: Annotated[str, Meta(min_length=1, description="folder of the embedded engine, made if it is not there")] = (
        "data"
    )
    key: Annotated[
        str,
        Meta(
            description='PEM file with the private key (Ed25519) that signs the probe; "": one is made and kept as '
            "node.pem in the data folder"
        ),
    ] = ""
    roles: Annotated[
        list[Literal["downlink", "uplink", "service", "access", "media"]],
        Meta(min_length=1, description="what this process does"),
    ] = msgspec.field(default_factory=lambda: ["downlink", "uplink", "service", "media"])

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise ConfigError(f"name: expected printable characters, got {self.name!r}")


class Tls(listeners.Tls, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`tls = { certificate = …, key = … }` of a `[[listen]]`"""

    certificate: Annotated[str, Meta(min_length=1, description="PEM file: the certificate, then those that signed it")]
    key: Annotated[str, Meta(min_length=1, description="PEM file: the private key")]


class Listen(listeners.Listen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[listen]]`"""

    address: Annotated[str, Meta(min_length=1, description="host:port, or [IPv6]:port; port 0 = a free one")]
    tls: Annotated[
        Tls | None, Meta(description="files for TLS; without them the address takes frames and HTTP in the clear")
    ] = None

    def __post_init__(self) -> None:
        try:
            listeners.parse_address(self.address)
        except ConfigError as error:
            raise ConfigError(str(error).replace("listen:", "address:", 1)) from None


class Auth(_Section, frozen=True, kw_only=True):
    """`[auth]`"""

    mode: Annotated[
        Literal["anonymous", "jwt"],
        Meta(description="how a token tells the user; anonymous: it is the user's name, on loopback only"),
    ] = "anonymous"
    keys: Annotated[
        list[str],
        Meta(
            description="for jwt: secrets of at least 32 bytes (HS256), PEM public keys (EdDSA, ES256, RS256)",
            extra={"secret": True},
        ),
    ] = []


class Rooms(_Section, frozen=True, kw_only=True):
    """`[rooms]`"""

    publish: Annotated[
        Literal["members", "none"], Meta(description="who may publish to a room beside the services")
    ] = "members"
    per_link: Annotated[int, Meta(ge=0, le=65535, description="rooms that one link may be in")] = 64


class Bus(_Section, frozen=True, kw_only=True):
    """`[bus]`"""

    engine: Annotated[
        Literal["embedded", "redis"],
        Meta(description="where queue and inboxes are kept: in this process's folder, or in Redis for many processes"),
    ] = "embedded"
    backlog: Annotated[
        Positive, Meta(description="messages that wait for their service, beyond which new ones are refused")
    ] = 100_000
    url: Annotated[
        str, Meta(description="where Redis is (redis://, rediss://, unix://); not used by the embedded engine")
    ] = "redis://127.0.0.1:6379/0"
    space: Annotated[
        str, Meta(min_length=1, max_length=64, pattern="^[^{}]+$", description="what all keys in Redis begin with")
    ] = "imcore"
    shards: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="parts of what is in Redis, fixed when it is first used: as many services can share the work",
        ),
    ] = 8


class Limits(_Section, frozen=True, kw_only=True):
    """`[limits]`"""

    max_frame: Annotated[
        int, Meta(ge=4096, le=16 * 1024 * 1024, description="length of a frame (route and body) after HELLO, bytes")
    ] = 65536
    heartbeat: Annotated[
        tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1, le=65535)]],
        Meta(description="shortest and longest time between a client's signs of life, seconds"),
    ] = (30, 600)
    idle_s: Annotated[
        int, Meta(ge=1, le=65535, description="an up link that is silent for so long is closed, seconds")
    ] = 120
    handshake_s: Annotated[
        float, Meta(gt=0, le=3600, description="from the connection to a complete HELLO, seconds")
    ] = 10.0
    window: Annotated[Positive, Meta(description="inbox messages sent to a link and not acknowledged")] = 128
    window_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1024 * 1024 * 1024,
            description="bytes waiting for a link, beyond which the oldest room messages among them are dropped, its "
            "inbox is read later, and it is not read from",
        ),
    ] = 262144
    unanswered: Annotated[
        Positive, Meta(description="messages from a link that are not durable yet, beyond which it is not read from")
    ] = 1024
    links: Annotated[
        Positive,
        Meta(description="links of the node that messages come down on, beyond which new ones are refused for a while"),
    ] = 1_000_000
    user_links: Annotated[
        Positive, Meta(description="links of one user on the node, beyond which those of further devices are refused")
    ] = 128
    late_ms: Annotated[
        int,
        Meta(
            ge=10,
            description="how late the node may be with its work, beyond which new links are refused for a while, "
            "milliseconds",
        ),
    ] = 1000
    up_links: Annotated[
        Positive, Meta(description="links of the node for what goes up alone, beyond which new ones are refused")
    ] = 100_000
    up_rate: Annotated[
        int,
        Meta(
            ge=0,
            description="messages and up links that the node takes a second, beyond which they are refused; 0 = any",
        ),
    ] = 0
    up_waiting: Annotated[
        Positive,
        Meta(description="messages and up links of the node that wait for their answer, beyond which more are refused"),
    ] = 50_000
    up_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            description="bytes of these messages, beyond which more are refused; not less than max_frame",
        ),
    ] = 256 * 1024 * 1024
    up_late_ms: Annotated[
        int,
        Meta(
            ge=10,
            description="how late the node may be with its work, beyond which messages and up links are refused, "
            "milliseconds; not more than late_ms",
        ),
    ] = 500
    devices: Annotated[
        Literal["all", "one", "one-per-kind"],
        Meta(
            description="which devices of a user may be on at a time; beyond it the newest link stays. A device's kind "
            'is what precedes the first ":" of its name'
        ),
    ] = "all"
    drain_s: Annotated[
        float, Meta(ge=0, le=86400, description="time that links get to leave when the node stops, seconds")
    ] = 5.0
    spread_s: Annotated[
        float,
        Meta(ge=0, le=86400, description="over how long they are asked to come back when the node stops, seconds"),
    ] = 5.0

    def __post_init__(self) -> None:
        gateway_limits.Limits(**msgspec.structs.asdict(self))  # it knows what can't be together


class Inbox(_Section, frozen=True, kw_only=True):
    """`[inbox]`"""

    count: Annotated[Positive, Meta(description="messages kept for a user; what is over expires, oldest first")] = (
        10_000
    )
    size: Annotated[Positive, Meta(description="bytes of bodies kept for a user")] = 64 * 1024 * 1024
    age_s: Annotated[Seconds, Meta(description="how old a message may become, seconds")] = 30 * 86400
    device_ttl_s: Annotated[
        Seconds, Meta(description="a device not seen for so long holds nothing back any more, seconds")
    ] = 30 * 86400


class S3(_Section, frozen=True, kw_only=True):
    """`[media.s3]`"""

    bucket: Annotated[str, Meta(description="where finished files are kept")] = ""
    prefix: Annotated[str, Meta(description="what their names begin with")] = "media/"
    endpoint: Annotated[str, Meta(description='URL of the service, "" = that of AWS for the region')] = ""
    region: Annotated[str, Meta(min_length=1, description="of the bucket")] = "us-east-1"
    access_key: Annotated[
        str, Meta(description='"": what the environment or the machine says', extra={"secret": True})
    ] = ""
    secret_key: Annotated[str, Meta(description="that belongs to it", extra={"secret": True})] = ""


class Media(_Section, frozen=True, kw_only=True):
    """`[media]`"""

    listen: Annotated[
        list[Listen], Meta(description="addresses of its own, `[[media.listen]]`; none: those of `[[listen]]`")
    ] = []
    store: Annotated[Literal["folder", "s3"], Meta(description="where finished files are kept")] = "folder"
    folder: Annotated[
        str, Meta(description='of uploads under way, and of the files; "": `media` in the data folder')
    ] = ""
    key: Annotated[
        str,
        Meta(
            description='file with at least 32 secret bytes that sign links, the same for all nodes of one store; "": '
            "they are made and kept as media.key in the media folder"
        ),
    ] = ""
    max_size: Annotated[Positive, Meta(description="bytes of a file")] = 2 * 1024 * 1024 * 1024
    types: Annotated[
        list[Annotated[str, Meta(pattern=r"^[a-z0-9*][^/ ]*/[^/ ]+$")]],
        Meta(min_length=1, description='media types that are taken, such as "image/*" or "application/pdf"'),
    ] = msgspec.field(default_factory=lambda: ["*/*"])
    rate: Annotated[int, Meta(ge=0, description="bytes a second of one user's uploads together, 0 = any")] = 0
    parallel: Annotated[Positive, Meta(description="uploads of one user at once")] = 16
    quota: Annotated[Positive, Meta(description="bytes that one user may keep")] = 10 * 1024 * 1024 * 1024
    files: Annotated[
        Positive, Meta(description="files that one user may keep, with the uploads under way, however small")
    ] = 100_000
    expire_s: Annotated[Seconds, Meta(description="an upload that nobody goes on with is given up, seconds")] = 86400
    keep_s: Annotated[
        int, Meta(ge=0, le=3_162_240_000, description="how long a file is kept, seconds, 0 = until it is deleted")
    ] = 0
    link_s: Annotated[Seconds, Meta(description="how long a link holds, seconds")] = 3600
    idle_s: Annotated[float, Meta(gt=0, le=86400, description="a transfer that nothing moves on is ended, seconds")] = (
        60.0
    )
    s3: S3 = S3()

    def __post_init__(self) -> None:
        if self.store == "s3" and not self.s3.bucket:
            raise ConfigError('s3.bucket: expected the name of a bucket, since store is "s3"')


class Config(_Section, frozen=True, kw_only=True):
    """All sections. `Config()` is a node for trials: anonymous, on 127.0.0.1:8080, of every role that needs no more."""

    node: Node = Node()
    listen: Annotated[list[Listen], Meta(min_length=1, description="where clients connect")] = msgspec.field(
        default_factory=lambda: [Listen(address="127.0.0.1:8080")]
    )
    auth: Auth = Auth()
    rooms: Rooms = Rooms()
    bus: Bus = Bus()
    limits: Limits = Limits()
    inbox: Inbox = Inbox()
    access: Access = Access()
    media: Media = Media()

    def __post_init__(self) -> None:
        roles, here = self.node.roles, [role for role in ("downlink", "uplink") if role in self.node.roles]
        if self.bus.engine == "embedded" and (len(here) == 1 or ("service" in roles and not here)):
            raise ConfigError(
                'node.roles: expected "downlink" and "uplink" together, with "service" beside them or without: what '
                'leaves one process goes over Redis (bus.engine = "redis")'
            )
        if "access" in roles and not here and (self.bus.engine == "embedded" or not self.access.points):
            raise ConfigError(
                'node.roles: "access" answers on the addresses of "downlink" or "uplink": add one of them; or let it '
                'be alone, on Redis (bus.engine = "redis") and with the points that it lists (access.points)'
            )

    def link_limits(self) -> gateway_limits.Limits:
        """What the gateway allows a link: `[limits]` and `[rooms]` in its own terms."""
        return gateway_limits.Limits(
            **msgspec.structs.asdict(self.limits), publish=self.rooms.publish, rooms_per_link=self.rooms.per_link
        )

    def media_limits(self) -> media_limits.Limits:
        """What the media service allows, in its own terms."""
        media = self.media
        return media_limits.Limits(
            max_size=media.max_size,
            types=tuple(media.types),
            rate=media.rate,
            parallel=media.parallel,
            quota=media.quota,
            files=media.files,
            expire_s=media.expire_s,
            keep_s=media.keep_s,
            link_s=media.link_s,
            idle_s=media.idle_s,
        )


def parse(text: str, *, source: str = "configuration", folder: str | os.PathLike[str] = "") -> Config:
    """The configuration in a TOML text. Relative paths in it begin at `folder`. Raises `ConfigError`."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise syntax_error(error, text, source) from None
    config = convert(document, Config, source)
    at = Path(folder)
    key = str(at / config.node.key) if config.node.key else ""
    node = msgspec.structs.replace(config.node, data=str(at / config.node.data), key=key)
    media = msgspec.structs.replace(
        config.media,
        listen=_listens(config.media.listen, at),
        folder=str(at / config.media.folder) if config.media.folder else "",
        key=str(at / config.media.key) if config.media.key else "",
    )
    access = msgspec.structs.replace(
        config.access,
        keys=[str(at / each) for each in config.access.keys],
        databases=[str(at / each) for each in config.access.databases],
    )
    return msgspec.structs.replace(config, node=node, listen=_listens(config.listen, at), media=media, access=access)


def _listens(listens: list[Listen], at: Path) -> list[Listen]:
    return [
        each
        if each.tls is None
        else msgspec.structs.replace(
            each, tls=Tls(certificate=str(at / each.tls.certificate), key=str(at / each.tls.key))
        )
        for each in listens
    ]


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in a TOML file; relative paths in it begin at the file's folder. Raises `ConfigError`."""
    source = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{source}: expected a TOML file that can be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: expected TOML, which is UTF-8, got a bad byte at offset {error.start}") from None
    return parse(text, source=source, folder=Path(path).parent)
