"""Every error of imcore, in one tree: whose fault it is, the code that the wire gives it, and what to do.

`LocalError` is the fault of the program that calls us, `RemoteError` that of the other end of a link, `Refused` and
`Unknown` are the two ways in which a message was not confirmed. This module imports nothing of imcore.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal

__all__ = [
    "BadFrame",
    "BadHello",
    "BadList",
    "BadProof",
    "ConfigError",
    "EncodeError",
    "EngineError",
    "FrameError",
    "ImcoreError",
    "LinkClosed",
    "LocalError",
    "MediaDamaged",
    "OutboxError",
    "OutboxFull",
    "Refused",
    "RemoteError",
    "TooLarge",
    "TunnelError",
    "Unauthorized",
    "Unknown",
    "UnsupportedVersion",
    "WayError",
]


class ImcoreError(Exception):
    """The root. `code` is the wire's code for it (wire: "Codes")."""

    code: str = "internal"


class LocalError(ImcoreError):
    """The caller asked for something that can't be done; nothing went over the wire."""


class ConfigError(LocalError, ValueError):
    """The configuration is wrong; the text names the key, what was expected and the nearest right one."""


class EncodeError(LocalError, ValueError):
    """The arguments do not make a frame that the wire allows."""

    code = "bad_frame"


class OutboxFull(LocalError):
    """The client holds as many unconfirmed messages as it was allowed to; wait for one, or raise the limit."""

    code = "overloaded"


class OutboxError(LocalError):
    """The outbox's file did not take a message: it was not sent, and is not kept. Look at the disk."""


class EngineError(LocalError):
    """The engine below (disk, database, broker) failed; nothing was confirmed that it did not hold."""

    code = "overloaded"


class RemoteError(ImcoreError):
    """The other end broke the contract, or said that it can't go on."""


class FrameError(RemoteError):
    """Bytes that are not a frame. `offset` counts from the first byte of the stream to the byte at fault."""

    code = "bad_frame"

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text, offset)
        self.text = text
        self.offset = offset

    def __str__(self) -> str:
        return f"{self.text} (at byte {self.offset} of the stream)"


class BadFrame(FrameError):
    """Magic, type, flags, lengths or route are not what the wire's frame allows, or the frame may not come now."""


class TooLarge(FrameError):
    """The length is above the limit in force; no byte of the frame was stored."""

    code = "too_large"


class UnsupportedVersion(FrameError):
    """The magic is right, the version is one that we do not speak."""

    code = "version"


class TunnelError(RemoteError):
    """Bytes that are not an HTTP message as a strict reading of RFC 9112 allows it, or one above a limit.

    `offset` counts from the first byte of the stream to the byte at fault. `status` is what a gateway answers before it
    closes: 400, 413, 414, 431, 501 or 505; in a response it only tells the kind.
    """

    code = "bad_frame"

    def __init__(self, text: str, offset: int, status: int) -> None:
        super().__init__(text, offset, status)
        self.text = text
        self.offset = offset
        self.status = status

    def __str__(self) -> str:
        return f"{self.text} (at byte {self.offset} of the stream)"


class BadHello(RemoteError):
    """A control map that lacks a key, or has a value of the wrong type or length. The text names the key."""

    code = "bad_hello"


class BadList(RemoteError):
    """What came is no list of access points that may be used. It is dropped, and another source is asked.

    `reason`: `stranger` (not a list at all: a portal, a proxy, an old hand), `signature` (by no key of ours, or changed
    on its way), `expired` (past its lifetime), `role` (a list for another direction).
    """

    code = "unauthorized"

    def __init__(self, reason: Literal["stranger", "signature", "expired", "role"], text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.reason}: {self.text}"


class BadProof(RemoteError):
    """What came does not prove that a gateway of ours has answered.

    `reason`: `stranger` (somebody else), `cached` (a gateway's answer to somebody else's question), `rewritten`
    (changed on its way), `truncated` (cut off).
    """

    code = "unauthorized"

    def __init__(self, reason: Literal["stranger", "cached", "rewritten", "truncated"], text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.reason}: {self.text}"


class Unauthorized(RemoteError):
    """The token is empty, unknown or forged (`unauthorized`), or past its time (`expired`)."""

    code = "unauthorized"

    def __init__(self, text: str, code: str = "unauthorized") -> None:
        super().__init__(text)
        self.code = code


class WayError(RemoteError):
    """No gateway at the end of this way, but something else, or nothing. `outcome` is its name, such as `PORTAL`."""

    code = "timeout"

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(outcome, text)
        self.outcome = outcome
        self.text = text

    def __str__(self) -> str:
        return f"{self.outcome}: {self.text}"


class LinkClosed(RemoteError):
    """The link ended. With an `ERROR` frame: its code, text and `retry_ms` (None: do not come back as you are)."""

    def __init__(self, code: str, text: str, retry_ms: int | None = 0) -> None:
        super().__init__(code, text, retry_ms)
        self.code = code
        self.text = text
        self.retry_ms = retry_ms

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class MediaDamaged(RemoteError):
    """A file did not arrive as it was sent, or changed while it was sent. Nothing of it was kept: do it again."""


class Refused(ImcoreError):
    """The gateway did not take the message, and never will as it is. It was neither stored nor processed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class Unknown(ImcoreError):
    """The time was up, or the client closed, before an answer came: the message may be durable, or may not.

    `id` is its number, 0 = it was not sent so far. Where `receipt` is set the client goes on until it knows, with the
    same number (the next link settles it: what arrived is recognised), and `await error.receipt` returns what `send`
    would have, or raises `Refused` or `Unknown`. Where it is None, nothing more will be told; and what was not sent by
    then never will be, unless an outbox on disk keeps it for the next process.
    """

    code = "timeout"

    def __init__(self, id: int, text: str, receipt: Awaitable[Any] | None = None) -> None:
        super().__init__(id, text)
        self.id = id
        self.text = text
        self.receipt = receipt

    def __str__(self) -> str:
        return self.text
