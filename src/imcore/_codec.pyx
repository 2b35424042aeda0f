"""The frame codec (wire: "The frame"): bytes to frames and back, from any cut, within a limit.

It knows what a frame is, never what one means or when it may come: that is `session`'s. No clock, no socket, no logging.
What it is given is either decoded or answered by a `FrameError`, and never stored beyond the limit in force.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DecodeUTF8

from .errors import BadFrame, EncodeError, TooLarge, UnsupportedVersion

HELLO = 1
WELCOME = 2
PING = 3
PONG = 4
MSG = 5
ACK = 6
JOIN = 7
LEAVE = 8
GOAWAY = 9
ERROR = 10
PAD = 11

DUP = 1
ROOM = 2
FAILED = 4

HEADER_SIZE = HEADER
MAX_FRAME = FRAME_MAX

cdef tuple NAMES = ("0", "HELLO", "WELCOME", "PING", "PONG", "MSG", "ACK", "JOIN", "LEAVE", "GOAWAY", "ERROR", "PAD")


cdef uint32_t first_bad_utf8(const uint8_t *p, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0, more, low, high, k
    cdef uint8_t lead
    while i < n:
        lead = p[i]
        if lead < 0x80:
            i += 1
            continue
        # RFC 3629, section 4: the range of the second byte keeps out over-long forms, surrogates and > U+10FFFF
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return i
        if n - i <= more or p[i + 1] < low or p[i + 1] > high:
            return i
        for k in range(2, more + 1):
            if p[i + k] & 0xC0 != 0x80:
                return i
        i += more + 1
    return n


cdef object fault_error(int64_t fault, const frame_t *frame, uint32_t limit, uint64_t offset):
    cdef uint64_t at = offset + frame.fault_at
    if fault == BAD_MAGIC:
        return BadFrame("expected a frame, which starts with 0xA1", at)
    if fault == BAD_VERSION:
        return UnsupportedVersion("expected version 1 of the frame (0xA1)", at)
    if fault == BAD_TYPE:
        return BadFrame(f"expected a frame type from 1 to {LAST_TYPE}, got {frame.type}", at)
    if fault == BAD_FLAGS:
        return BadFrame(f"expected no flag beside DUP, ROOM and FAILED, got 0x{frame.flags:02x}", at)
    if fault == ROUTE_TOO_LONG:
        return BadFrame(f"expected a route within the frame's {frame.length} bytes, got one of {frame.route_len}", at)
    if fault == BODY_TOO_LARGE:
        return TooLarge(f"expected at most {limit} bytes behind the header, got a length of {frame.length}", at)
    return BadFrame("expected the route in UTF-8", at)


cdef inline uint32_t limit_of(object max_frame) except 0:
    if not 0 < max_frame <= FRAME_MAX:
        raise ValueError(f"max_frame: expected 1 to {FRAME_MAX} bytes, got {max_frame}")
    return max_frame


cdef inline Frame frame_from(const frame_t *view):
    cdef Frame frame = Frame.__new__(Frame)
    frame.type = view.type
    frame.flags = view.flags
    frame.id = view.id
    frame.route = PyUnicode_DecodeUTF8(<const char *> view.route, view.route_len, NULL) if view.route_len else ""
    frame.body = PyBytes_FromStringAndSize(<const char *> view.body, view.body_len)
    return frame


@cython.freelist(256)
@cython.final
cdef class Frame:
    """One frame, immutable.

    type: 1 to 11, one of this module's constants. id: 0 to 2**64 - 1. route: at most 255 bytes of UTF-8. body: bytes.
    flags: `DUP`, `ROOM`, `FAILED` or'ed. Raises `EncodeError` for what the wire does not allow.
    """

    def __init__(self, type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0):
        check(type, id, route, body, flags)
        self.type = type
        self.id = id
        self.route = route
        self.body = bytes(body)
        self.flags = flags

    def encode(self) -> bytes:
        """The frame as it goes over the wire."""
        return encode(self.type, self.id, self.route, self.body, self.flags)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        cdef Frame that = other
        return (self.type == that.type and self.flags == that.flags and self.id == that.id
                and self.route == that.route and self.body == that.body)

    def __hash__(self) -> int:
        return hash((self.type, self.flags, self.id, self.route, self.body))

    def __reduce__(self):
        return Frame, (self.type, self.id, self.route, self.body, self.flags)

    def __repr__(self) -> str:
        flags = "|".join(name for bit, name in ((DUP, "DUP"), (ROOM, "ROOM"), (FAILED, "FAILED")) if self.flags & bit)
        return (f"Frame({NAMES[self.type]}, id={self.id}, route={self.route!r}, body={self.body!r}"
                + (f", flags={flags})" if flags else ")"))


cdef Py_ssize_t check(object type, object id, str route, object body, object flags) except -1:
    """The bytes behind the header, or EncodeError."""
    cdef Py_ssize_t route_len
    if not 1 <= type <= LAST_TYPE:
        raise EncodeError(f"type: expected 1 to {LAST_TYPE}, got {type}")
    if not 0 <= id < 1 << 64:
        raise EncodeError(f"id: expected 0 to 2**64 - 1, got {id}")
    if flags & ~KNOWN_FLAGS:
        raise EncodeError(f"flags: expected DUP, ROOM and FAILED, got 0x{flags:02x}")
    route_len = len(route) if route.isascii() else len(utf8(route))
    if route_len > 255:
        raise EncodeError(f"route: expected at most 255 bytes of UTF-8, got {route_len}")
    if route_len + len(body) > FRAME_MAX:
        raise EncodeError(f"body: expected at most {FRAME_MAX - route_len} bytes beside the route, got {len(body)}")
    return route_len + len(body)


cdef bytes utf8(str text):
    try:
        return PyUnicode_AsUTF8String(text)
    except UnicodeEncodeError as error:
        raise EncodeError(f"route: expected text that UTF-8 can hold: {error}") from None


cdef void write(uint8_t *p, uint8_t type, uint64_t id, bytes route, const uint8_t *body, size_t body_len, uint8_t flags) noexcept:
    cdef size_t route_len = len(route)
    put_header(p, type, flags, <uint8_t> route_len, <uint32_t> (route_len + body_len), id)
    memcpy(p + HEADER, PyBytes_AS_STRING(route), route_len)
    memcpy(p + HEADER + route_len, body, body_len)


def encode(type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> bytes:
    """One frame as bytes. The arguments are those of `Frame`; raises `EncodeError`."""
    cdef Py_ssize_t length = check(type, id, route, body, flags)
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, HEADER + length)
    encode_at(<uint8_t *> PyBytes_AS_STRING(whole), type, id, route, body, flags)
    return whole


cdef int encode_at(uint8_t *p, object type, object id, str route, object body, object flags) except -1:
    cdef const uint8_t[::1] view = body
    write(p, type, id, utf8(route), &view[0] if view.shape[0] else NULL, view.shape[0], flags)
    return 0


def encode_into(buffer: bytearray, offset: int, type: int, id: int = 0, route: str = "", body: bytes = b"",
                flags: int = 0) -> int:
    """Write one frame into a writable buffer from `offset` on; returns the offset behind it.

    Raises `EncodeError` for what `encode` would refuse, and ValueError, with nothing written, when it does not fit.
    """
    cdef Py_ssize_t size = HEADER + check(type, id, route, body, flags)
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
    try:
        if offset < 0 or offset > view.len or view.len - <Py_ssize_t> offset < size:
            raise ValueError(f"buffer: expected room for {size} bytes from offset {offset} on, got {view.len} bytes in all")
        encode_at(<uint8_t *> view.buf + <Py_ssize_t> offset, type, id, route, body, flags)
    finally:
        PyBuffer_Release(&view)
    return offset + size


def scan(data: bytes, max_frame: int = 65536) -> tuple[int, int]:
    """How many whole frames `data` starts with, and the bytes they take; nothing is built. Raises `FrameError`."""
    cdef const uint8_t[::1] view = data
    cdef uint32_t limit = limit_of(max_frame)
    cdef size_t n = view.shape[0], at = 0, count = 0
    cdef const uint8_t *p = &view[0] if n else NULL
    cdef int64_t size = 0
    cdef frame_t frame
    with nogil:
        while at < n:
            size = parse(p + at, n - at, limit, &frame)
            if size <= 0:
                break
            at += size
            count += 1
    if size < 0:
        raise fault_error(size, &frame, limit, at)
    return count, at


@cython.final
cdef class FrameDecoder:
    """Bytes in, frames out, from any cut: `for frame in decoder.feed(data)`.

    max_frame: the limit on a frame's length field (route and body), in bytes; may be raised or lowered between frames.
    Iteration yields every whole frame, then stops; or raises the `FrameError` that stands in the way, at every further
    use: a stream is never picked up again behind an error. What was fed is borrowed until it has been iterated over;
    after that at most one incomplete frame is held, as far as it has come.
    """

    def __cinit__(self, max_frame: int = 65536):
        self.limit = limit_of(max_frame)

    def __dealloc__(self):
        PyMem_Free(self.tail)

    @property
    def max_frame(self) -> int:
        """The limit in force, in bytes."""
        return self.limit

    @max_frame.setter
    def max_frame(self, value: int) -> None:
        self.limit = limit_of(value)

    @property
    def buffered(self) -> int:
        """Bytes held or borrowed that no frame was made of yet."""
        return self.tail_len + self.left

    @property
    def offset(self) -> int:
        """Where in the stream the next frame starts, in bytes."""
        return self.start

    def feed(self, data: bytes) -> FrameDecoder:
        """Take the stream's next bytes; returns the decoder itself, to iterate over."""
        if self.left:  # the last iteration was left early
            data = bytes(self.source)[self.source_len() - self.left:] + data
        self.source = data
        self.left = self.source_len()
        return self

    def end(self) -> None:
        """The stream is over. Raises `BadFrame` if that is in the middle of a frame."""
        if self.error is not None:
            raise self.error
        if self.buffered:
            raise BadFrame(f"the stream ended inside a frame, {self.buffered} bytes into it", self.start + self.buffered)

    cdef Py_ssize_t source_len(self) noexcept:
        return self.source.shape[0]

    def __iter__(self) -> FrameDecoder:
        return self

    def __next__(self) -> Frame:
        cdef int64_t size
        cdef size_t taken
        cdef const uint8_t *p
        cdef frame_t view
        cdef Frame frame
        if self.error is not None:
            raise self.error
        if self.left == 0:
            raise StopIteration
        p = &self.source[self.source.shape[0] - self.left]
        if self.tail_len == 0:
            size = parse(p, self.left, self.limit, &view)
            if size > 0:
                frame = frame_from(&view)
                self.left -= size
                self.start += size
                return frame
            if size == 0:
                self.keep(p, self.left)
                raise StopIteration
        else:
            while True:  # twice at the most: the header's rest, then the frame's
                taken = size_wanted(self.tail, self.tail_len) - self.tail_len
                taken = min(taken, <size_t> self.left)
                self.keep(p, taken)
                p += taken
                size = parse(self.tail, self.tail_len, self.limit, &view)
                if size > 0:
                    frame = frame_from(&view)
                    self.tail_len = 0
                    self.start += size
                    return frame
                if size < 0:
                    break
                if self.left == 0:
                    raise StopIteration
        self.error = fault_error(size, &view, self.limit, self.start)
        self.left = 0
        self.source = None
        raise self.error

    cdef int keep(self, const uint8_t *p, size_t n) except -1:
        """Move n bytes of the input to the incomplete frame; its memory grows with what came, not with what was said."""
        cdef size_t want = self.tail_len + n
        cdef uint8_t *grown
        if want > self.tail_cap or (self.tail_len == 0 and self.tail_cap > 4096 and want <= 1024):
            want = max(want, min(self.tail_len * 2, size_wanted(p, n) if self.tail_len == 0 else size_wanted(self.tail, self.tail_len)))
            grown = <uint8_t *> PyMem_Realloc(self.tail, want)
            if grown == NULL:
                raise MemoryError
            self.tail = grown
            self.tail_cap = want
        memcpy(self.tail + self.tail_len, p, n)
        self.tail_len += n
        self.left -= n
        return 0
