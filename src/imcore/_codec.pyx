# cython: annotation_typing=False
# Annotations tell people; checks are our own, since Cython's refuse subclasses and every buffer but `bytes`.
"""The frame codec (wire: "Frames"): bytes to frames and back, from any cut, within a limit.

It knows what a frame is, never what one means or when it may come: that is `session`'s. No clock, socket or logging.
What it is given is either decoded or answered by a `FrameError`, and never stored beyond the limit in force.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8, PyUnicode_FromObject
from libc.string cimport memmove, memset

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

cdef enum:
    SPARE_TAIL = 4096  # bytes kept between incomplete frames; an ordinary frame fits

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


cdef uint64_t integer(object value, uint64_t least, uint64_t most, str name, type error) except? 0xFFFFFFFFFFFFFFFF:
    """An argument as a C integer, or `error`; TypeError for what is no integer, a float among it."""
    cdef object number = PyNumber_Index(value)
    cdef uint64_t result
    try:
        result = PyLong_AsUnsignedLongLong(number)
    except OverflowError:
        raise error(f"{name}: expected {least} to {most}, got {number}") from None
    if result < least or result > most:
        raise error(f"{name}: expected {least} to {most}, got {number}")
    return result


cdef uint32_t limit_of(object max_frame) except 0:
    return <uint32_t> integer(max_frame, 1, FRAME_MAX, "max_frame, in bytes", ValueError)


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
        if self.type:
            raise TypeError("a Frame is immutable: make another one")
        cdef frame_t frame
        cdef Py_buffer source
        cdef str name = PyUnicode_FromObject(route)
        PyObject_GetBuffer(body, &source, PyBUF_SIMPLE)
        try:
            describe(&frame, type, id, name, &source, flags)
            self.body = body if PyBytes_CheckExact(body) else PyBytes_FromStringAndSize(<char *> source.buf, source.len)
        finally:
            PyBuffer_Release(&source)
        self.type = frame.type
        self.flags = frame.flags
        self.id = frame.id
        self.route = name

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


cdef int describe(frame_t *frame, object type, object id, str route, const Py_buffer *body, object flags) except -1:
    """The arguments as a frame that borrows from them, or EncodeError."""
    cdef Py_ssize_t route_len
    frame.type = <uint8_t> integer(type, 1, LAST_TYPE, "type", EncodeError)
    frame.id = integer(id, 0, 0xFFFFFFFFFFFFFFFF, "id", EncodeError)
    frame.flags = <uint8_t> integer(flags, 0, KNOWN_FLAGS, "flags (DUP, ROOM and FAILED, or'ed)", EncodeError)
    try:
        frame.route = <const uint8_t *> PyUnicode_AsUTF8AndSize(route, &route_len)
    except UnicodeEncodeError as error:
        raise EncodeError(f"route: expected text that UTF-8 can hold: {error}") from None
    if route_len > 255:
        raise EncodeError(f"route: expected at most 255 bytes of UTF-8, got {route_len}")
    if body.len > FRAME_MAX - route_len:
        raise EncodeError(f"body: expected at most {FRAME_MAX - route_len} bytes beside the route, got {body.len}")
    frame.route_len = <uint8_t> route_len
    frame.body = <const uint8_t *> body.buf
    frame.body_len = <uint32_t> body.len
    frame.length = <uint32_t> (route_len + body.len)
    return 0


cdef void put_frame(uint8_t *p, const frame_t *frame) noexcept nogil:
    # the body first, and with memmove: it may lie in the very buffer that is written to
    if frame.body_len:
        memmove(p + HEADER + frame.route_len, frame.body, frame.body_len)
    put_header(p, frame.type, frame.flags, frame.route_len, frame.length, frame.id)
    memcpy(p + HEADER, frame.route, frame.route_len)


def encode(type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> bytes:
    """One frame as bytes. The arguments are those of `Frame`; raises `EncodeError`."""
    cdef frame_t frame
    cdef Py_buffer source
    cdef str name = PyUnicode_FromObject(route)
    cdef bytes whole
    PyObject_GetBuffer(body, &source, PyBUF_SIMPLE)
    try:
        describe(&frame, type, id, name, &source, flags)
        whole = PyBytes_FromStringAndSize(NULL, HEADER + <Py_ssize_t> frame.length)
        put_frame(<uint8_t *> PyBytes_AS_STRING(whole), &frame)
    finally:
        PyBuffer_Release(&source)
    return whole


def encode_into(buffer: bytearray, offset: int, type: int, id: int = 0, route: str = "", body: bytes = b"",
                flags: int = 0) -> int:
    """Write one frame into a writable, contiguous buffer from byte `offset` on; returns the offset behind it.

    The body may lie in the same buffer. Raises `EncodeError` for what `encode` would refuse, and ValueError, with
    nothing written, when it does not fit.
    """
    cdef frame_t frame
    cdef Py_buffer source, target
    cdef str name = PyUnicode_FromObject(route)
    cdef uint64_t at = integer(offset, 0, 0xFFFFFFFFFFFFFFFF, "offset", ValueError), room, size
    PyObject_GetBuffer(body, &source, PyBUF_SIMPLE)
    try:
        describe(&frame, type, id, name, &source, flags)
        PyObject_GetBuffer(buffer, &target, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            size = HEADER + <uint64_t> frame.length
            room = <uint64_t> target.len
            if at > room or room - at < size:
                raise ValueError(f"buffer: expected room for {size} bytes from offset {at} on, got {room} bytes in all")
            put_frame(<uint8_t *> target.buf + at, &frame)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return at + size


def scan(data: bytes, max_frame: int = 65536) -> tuple[int, int]:
    """How many whole frames `data` starts with, and the bytes they take; nothing is built.

    `data` is bytes, or any contiguous buffer. Raises `FrameError`.
    """
    cdef uint32_t limit = limit_of(max_frame)
    cdef size_t at = 0, count = 0, n
    cdef int64_t size = 0
    cdef frame_t frame
    cdef Py_buffer source
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    n = source.len
    while at < n:  # with the GIL: nobody may write to a buffer between the check of a length and its use
        size = parse(<const uint8_t *> source.buf + at, n - at, limit, &frame)
        if size <= 0:
            break
        at += <size_t> size
        count += 1
    PyBuffer_Release(&source)
    if size < 0:
        raise fault_error(size, &frame, limit, at)
    return count, at


@cython.final
@cython.no_gc_clear  # a buffer that was borrowed is given back, never just forgotten
cdef class FrameDecoder:
    """Bytes in, frames out, from any cut: `for frame in decoder.feed(data)`.

    max_frame: the limit on a frame's length field (route and body), in bytes, 1 to `MAX_FRAME`; may be changed between
    frames. Iteration yields every whole frame, then stops; or raises the `FrameError` that stands in the way, at
    every further use: a stream is never picked up again behind an error. What was fed is borrowed until the iteration
    has come to its end; after that at most one incomplete frame is held, in at most twice the memory that came of it,
    and never more than the limit and a header.
    """

    def __cinit__(self, max_frame: int = 65536):
        self.limit = limit_of(max_frame)

    def __dealloc__(self):
        self.let_go()
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
        """Take the stream's next bytes; returns the decoder itself, to iterate over.

        `data` is bytes, or any contiguous buffer, which must not change until it has been iterated over. If the last
        iteration was left early, what it left comes first. Raises the `FrameError` that was met before.
        """
        cdef Py_buffer fed
        cdef bytes joined
        if self.error is not None:
            raise self.met()
        PyObject_GetBuffer(data, &fed, PyBUF_SIMPLE)
        if self.left:
            try:
                joined = PyBytes_FromStringAndSize(<char *> self.source.buf + (self.source.len - self.left), self.left)
                joined += PyBytes_FromStringAndSize(<char *> fed.buf, fed.len)
            finally:
                PyBuffer_Release(&fed)
            PyObject_GetBuffer(joined, &fed, PyBUF_SIMPLE)
        self.let_go()
        self.source = fed
        self.left = fed.len
        if self.left == 0:
            self.let_go()
        return self

    def end(self) -> None:
        """The stream is over. Raises `BadFrame` if that is in the middle of a frame."""
        if self.error is not None:
            raise self.met()
        if self.buffered:
            at = self.start + self.buffered
            raise BadFrame(f"the stream ended inside a frame, {self.buffered} bytes into it", at)

    def __iter__(self) -> FrameDecoder:
        return self

    def __next__(self) -> Frame:
        cdef int64_t size
        cdef size_t n
        cdef const uint8_t *p
        cdef frame_t view
        cdef Frame frame
        if self.error is not None:
            raise self.met()
        while True:  # three times at the most: with what is there, with the header's rest, with the frame's
            if self.tail_len:
                p = self.tail
                n = self.tail_len
            elif self.left == 0:
                raise StopIteration
            else:
                p = <const uint8_t *> self.source.buf + (self.source.len - self.left)
                n = self.left
            size = parse(p, n, self.limit, &view)
            if size != 0:
                break
            if self.left == 0:
                raise StopIteration
            self.keep(min(size_wanted(p, n) - self.tail_len, <size_t> self.left))
        if size < 0:
            self.error = fault_error(size, &view, self.limit, self.start)
            self.drop_tail()
            self.let_go()
            raise self.met()
        frame = frame_from(&view)
        self.start += size
        if self.tail_len:
            self.drop_tail()
        else:
            self.left -= size
        if self.left == 0:
            self.let_go()
        return frame

    cdef object met(self):
        """The error that was met, made anew: one that is raised again and again would grow its traceback, and keep
        alive whatever it passed through."""
        return type(self.error)(*self.error.args)

    cdef int keep(self, size_t n) except -1:
        """Move n bytes of the input to the incomplete frame; it grows with what came, not with what was told."""
        cdef const uint8_t *p = <const uint8_t *> self.source.buf + (self.source.len - self.left)
        cdef size_t want = self.tail_len + n
        cdef uint8_t *grown
        if want > self.tail_cap:
            # twice as much, so that a drip is not copied over and over, yet never more than the frame will need
            want = max(want, min(self.tail_cap * 2, size_wanted(self.tail, self.tail_len)))
            grown = <uint8_t *> PyMem_Realloc(self.tail, want)
            if grown == NULL:
                raise MemoryError
            self.tail = grown
            self.tail_cap = want
        memcpy(self.tail + self.tail_len, p, n)
        self.tail_len += n
        self.left -= n
        if self.left == 0:
            self.let_go()
        return 0

    cdef void drop_tail(self) noexcept:
        """The incomplete frame is done with; the memory of a big one is not kept for a next one that may never come."""
        self.tail_len = 0
        if self.tail_cap > SPARE_TAIL:
            PyMem_Free(self.tail)
            self.tail = NULL
            self.tail_cap = 0

    cdef void let_go(self) noexcept:
        """Give back what was borrowed. The fields first: giving back may run code of the buffer's owner."""
        cdef Py_buffer used = self.source
        memset(&self.source, 0, sizeof(Py_buffer))
        self.left = 0
        PyBuffer_Release(&used)
