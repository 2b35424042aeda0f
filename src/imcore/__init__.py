"""The channel layer of instant messaging: connects, keeps connected, and hands over every message once.

Everything public is named here; what is reached through other modules may change without notice.
"""

from importlib.metadata import version

from ._codec import Frame, FrameDecoder
from ._wheel import TimerWheel
from .bus.ports import Seen, Uplink
from .client import Client, Gap, Message, Receipt, Settled, State
from .config import Config
from .errors import (
    BadFrame,
    BadHello,
    ConfigError,
    EncodeError,
    EngineError,
    FrameError,
    ImcoreError,
    LinkClosed,
    LocalError,
    MediaDamaged,
    OutboxError,
    OutboxFull,
    Refused,
    RemoteError,
    TooLarge,
    Unauthorized,
    Unknown,
    UnsupportedVersion,
    WayError,
)
from .gateway.counters import Counters
from .node import Node
from .reference import Reference
from .service import Online, Service

__version__ = version("imcore")

__all__ = [
    "BadFrame",
    "BadHello",
    "Client",
    "Config",
    "ConfigError",
    "Counters",
    "EncodeError",
    "EngineError",
    "Frame",
    "FrameDecoder",
    "FrameError",
    "Gap",
    "ImcoreError",
    "LinkClosed",
    "LocalError",
    "MediaDamaged",
    "Message",
    "Node",
    "Online",
    "OutboxError",
    "OutboxFull",
    "Receipt",
    "Reference",
    "Refused",
    "RemoteError",
    "Seen",
    "Service",
    "Settled",
    "State",
    "TimerWheel",
    "TooLarge",
    "Unauthorized",
    "Unknown",
    "UnsupportedVersion",
    "Uplink",
    "WayError",
    "__version__",
]
