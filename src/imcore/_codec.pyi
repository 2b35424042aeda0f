from collections.abc import Iterator
from typing import Any, Final, SupportsIndex, final

HELLO: Final[int]
WELCOME: Final[int]
PING: Final[int]
PONG: Final[int]
MSG: Final[int]
ACK: Final[int]
JOIN: Final[int]
LEAVE: Final[int]
GOAWAY: Final[int]
ERROR: Final[int]
PAD: Final[int]

DUP: Final[int]
ROOM: Final[int]
FAILED: Final[int]

HEADER_SIZE: Final[int]
MAX_FRAME: Final[int]

@final
class Frame:
    @property
    def type(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def route(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    def __init__(
        self,
        type: SupportsIndex,
        id: SupportsIndex = 0,
        route: str = "",
        body: bytes | bytearray | memoryview = b"",
        flags: SupportsIndex = 0,
    ) -> None: ...
    def encode(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

def encode(
    type: SupportsIndex,
    id: SupportsIndex = 0,
    route: str = "",
    body: bytes | bytearray | memoryview = b"",
    flags: SupportsIndex = 0,
) -> bytes: ...
def encode_into(
    buffer: bytearray | memoryview,
    offset: SupportsIndex,
    type: SupportsIndex,
    id: SupportsIndex = 0,
    route: str = "",
    body: bytes | bytearray | memoryview = b"",
    flags: SupportsIndex = 0,
) -> int: ...
def scan(data: bytes | bytearray | memoryview, max_frame: SupportsIndex = 65536) -> tuple[int, int]: ...

@final
class FrameDecoder(Iterator[Frame]):
    def __new__(cls, max_frame: SupportsIndex = 65536) -> FrameDecoder: ...
    @property
    def max_frame(self) -> int: ...
    @max_frame.setter
    def max_frame(self, value: SupportsIndex) -> None: ...
    @property
    def buffered(self) -> int: ...
    @property
    def offset(self) -> int: ...
    def feed(self, data: bytes | bytearray | memoryview) -> FrameDecoder: ...
    def end(self) -> None: ...
    def __iter__(self) -> FrameDecoder: ...
    def __next__(self) -> Frame: ...
