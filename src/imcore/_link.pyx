"""Links: byte streams of frames, either side of the wire.

A link hands on the frames that come where they lie, and writes those that go behind one another. It knows which frame
may come, by the table that it is given, and never what a message means.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from cpython.ref cimport Py_DECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy, memset

from ._codec cimport (BAD_MAGIC, FRAME_MAX, HEADER, KNOWN_FLAGS, LAST_TYPE, NAMES, fault_error, parse, put_be64,
                      put_header, size_wanted)
from ._output cimport chunk_drop, chunk_new, output_new, output_reserve
from ._room cimport Room
from ._stream cimport ENDED, HELD, INPUT, LINGERING, READING, RENEWS, TAKEN

from .errors import BadFrame, EncodeError

cdef extern from *:
    """
    #ifndef IMCORE_POISON
    #define IMCORE_POISON 0
    #endif
    """
    bint POISON "IMCORE_POISON"

HAND = DO_HAND
ANSWER = DO_ANSWER
IGNORE = DO_IGNORE
TAKE = DO_TAKE
RELAY = DO_RELAY

cdef enum:
    NEW_INPUT = 8 * 1024        # what a link gets of a turn before it may send more than HELLO
    PAD = 11
    PAD_MOST = 4096             # wire: "Frames"
    T_PONG = 4
    T_MSG = 5
    T_ACK = 6


@cython.no_gc_clear  # as its base
cdef class Link(Stream):
    """One byte stream of frames. Subclass it, and say what to do by `on_frame`, `on_fault`, `on_taken`, `on_deadline`
    and `on_end`; all are called on the loop's thread, and what they raise ends the link.

    hub: the loop's. moves: which frame may come, and what is done with it (`session.moves`). max_frame: the limit on a
    frame's length field, in bytes.
    """

    def __cinit__(self, hub, moves: bytes, max_frame: int, *args, **kwargs):
        Link.expect_moves(self, moves, max_frame)

    def __init__(self, hub, moves: bytes, max_frame: int):
        pass

    def __dealloc__(self):
        self.let_go()  # the base's, if that refused its hub: nothing may be called here that is the link's alone

    # What the owner is told. The defaults do the least that is right.

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        """A frame that the table says to hand on."""

    def on_fault(self, error) -> None:
        """The other side broke the contract (`error`: FrameError). Say so; the link is closed on return."""
        self.abort()

    def on_foreign(self, first: bytes) -> bool:
        """The stream begins with `first`, and not with a frame: seen to by `release` or `close` (True), or a fault."""
        return False

    def on_ping(self) -> None:
        """The other side asks for `head` (where `pong_head` says so): the last moment to correct it."""

    # What comes.

    def expect_moves(self, moves: bytes, max_frame: int) -> None:
        """From the next frame on these may come, up to this limit."""
        if len(moves) != 128:
            raise ValueError(f"moves: expected 128 bytes, got {len(moves)}")
        if not 0 < max_frame <= FRAME_MAX:
            raise ValueError(f"max_frame: expected 1 to {FRAME_MAX} bytes, got {max_frame}")
        self.moves = moves
        self.limit = max_frame

    @property
    def offset(self) -> int:
        """Where in the stream the next frame starts, in bytes."""
        return self.start

    cdef size_t aim(self, uint8_t **into) except 0:
        cdef size_t missing
        if self.tail != NULL and self.state == READING:
            missing = size_wanted(self.tail.data, self.tail.len) - self.tail.len
            if missing > INPUT:  # the rest of a big frame goes to its place at once
                if self.tail.cap == self.tail.len:
                    self.grow_tail(min(self.tail.len + missing, self.tail.len * 2))
                into[0] = self.tail.data + self.tail.len
                return self.tail.cap - self.tail.len
        into[0] = self.hub.input
        return NEW_INPUT if self.limit <= NEW_INPUT else INPUT

    cdef int received(self, const uint8_t *p, size_t n) except -1:
        cdef size_t missing, take
        cdef int64_t size
        cdef frame_t frame
        cdef chunk_t *whole
        while self.tail != NULL and self.state == READING:
            missing = size_wanted(self.tail.data, self.tail.len) - self.tail.len
            if missing:
                if n == 0:
                    return 0
                take = min(missing, n)
                self.keep(p, take)
                p += take
                n -= take
            size = parse(self.tail.data, self.tail.len, self.limit, &frame)
            if size == 0:
                continue
            whole, self.tail = self.tail, NULL
            try:
                if size < 0:
                    return self.fault(fault_error(size, &frame, self.limit, self.start))
                self.dispatch(&frame, whole)
            finally:
                chunk_drop(whole)
        if self.state == READING:
            self.consume(p, n)
        elif self.state == HELD and n:
            self.keep(p, n)
        return 0

    cdef int consume(self, const uint8_t *p, size_t n) except -1:
        cdef size_t at = 0
        cdef int64_t size
        cdef frame_t frame
        while at < n and self.state == READING:
            size = parse(p + at, n - at, self.limit, &frame)
            if size < 0:
                if size == BAD_MAGIC and self.start == 0 and self.on_foreign((<const char *> p)[:n]):
                    return 0
                return self.fault(fault_error(size, &frame, self.limit, self.start))
            if size == 0:
                break
            self.dispatch(&frame, NULL)
            if POISON and self.hub.input <= p < self.hub.input + INPUT:
                memset(<uint8_t *> p + at, 0xDD, size)
            at += size
        if at < n and self.state in (READING, HELD):
            self.keep(p + at, n - at)
        return 0

    cdef int grow_tail(self, size_t want) except -1:
        cdef chunk_t *grown
        if self.tail == NULL:
            self.tail = chunk_new(want)
            if self.tail == NULL:
                raise MemoryError
        elif want > self.tail.cap:
            grown = <chunk_t *> realloc(self.tail, sizeof(chunk_t) + want)
            if grown == NULL:
                raise MemoryError
            grown.cap = want
            self.tail = grown
        return 0

    cdef int keep(self, const uint8_t *p, size_t n) except -1:
        """What waits for its rest, or for `proceed`; its memory grows with what came, not with what was said."""
        cdef size_t have = self.tail.len if self.tail != NULL else 0
        if self.tail == NULL or have + n > self.tail.cap:
            self.grow_tail(max(have + n, min(have * 2, size_wanted(self.tail.data, have) if have else 0)))
        memcpy(self.tail.data + have, p, n)
        self.tail.len = have + n
        return 0

    cdef int dispatch(self, const frame_t *frame, chunk_t *whole) except -1:
        cdef uint8_t action = (<const uint8_t *> PyBytes_AS_STRING(self.moves))[frame.type << 3 | frame.flags]
        self.hub.frames_in += 1
        if action == DO_RELAY:
            self.relay(frame, whole)
        elif action == DO_TAKE:
            self.take(frame.id)
        elif action == DO_ANSWER:
            self.answer(frame)
        elif action == DO_HAND:
            self.hand(frame)
        elif action == DO_IGNORE:
            if frame.type == PAD and frame.body_len > PAD_MOST:
                self.fault(BadFrame(f"PAD: expected at most {PAD_MOST} bytes, got {frame.body_len}", self.start))
        else:
            self.fault(BadFrame(f"{NAMES[frame.type]} may not come now, or not from this side", self.start))
        self.start += HEADER + frame.length
        return 0

    cdef int fault(self, object error) except -1:
        self.on_fault(error)
        self.close()
        return 0

    cdef int take(self, uint64_t id) except -1:
        if id > self.sent:
            return self.fault(BadFrame(f"ACK of {id}, but only {self.sent} was sent", self.start))
        if id > self.taken:
            self.taken = id
            if not self.flags & TAKEN:
                self.flags |= TAKEN
                self.hub.news.append(self)
                self.hub.wake()
        return 0

    cdef int answer(self, const frame_t *frame) except -1:
        cdef uint64_t seconds
        if frame.body_len not in (0, 2):
            return self.fault(BadFrame(f"PING: expected a body of 0 or 2 bytes, got {frame.body_len}", self.start))
        if frame.body_len and self.flags & RENEWS:
            seconds = max(1, frame.body[0] << 8 | frame.body[1])
            self.patience = <uint32_t> min(<uint64_t> self.most_patience,
                                           (seconds * 1500 + self.hub.tick_ms - 1) // self.hub.tick_ms)
            self.hub.wheel.hasten_c(self.timer, self.hub.ticks() + self.patience + 1)
            self.hub.schedule_tick()
        if self.pong_head:
            self.on_ping()
        self.put_number(T_PONG, frame.id, self.pong_head)
        return self.hub.hurry(self)

    cdef int relay(self, const frame_t *frame, chunk_t *whole) except -1:
        """A message for a room: straight to its members if this link is one of them, else to the owner to decide."""
        cdef uint16_t i
        cdef const char *name
        cdef Room room
        for i in range(self.rooms_len):
            room = <Room> self.rooms[i].room
            name = PyBytes_AS_STRING(room.route)
            if len(room.route) == frame.route_len and not memcmp(name, frame.route, frame.route_len):
                room.said(frame, whole)
                if frame.id:
                    self.put_number(T_ACK, frame.id, False)
                return 0
        return self.hand(frame)

    cdef int hand(self, const frame_t *frame) except -1:
        if self.hub.open_rooms:
            self.hub.spill()  # what the owner does now comes behind what was said in rooms before
        self.on_frame(
            frame.type, frame.flags, frame.id,
            PyUnicode_DecodeUTF8(<const char *> frame.route, frame.route_len, NULL) if frame.route_len else "",
            PyBytes_FromStringAndSize(<const char *> frame.body, frame.body_len),
        )
        return 0

    # What goes.

    cdef uint8_t *reserve(self, size_t n) except NULL:
        cdef uint8_t *p
        self.hub.mark(self)  # first: it may raise, and then nothing half-written must lie there
        if self.io.output == NULL:
            self.io.output = output_new()
            if self.io.output == NULL:
                raise MemoryError
        p = output_reserve(self.io.output, n)
        if p == NULL:
            raise MemoryError
        self.hub.frames_out += 1
        return p

    cdef int put_number(self, uint8_t type, uint64_t id, bint with_head) except -1:
        """A frame without a body, or with the inbox's newest number as its body."""
        cdef uint8_t *p
        if self.state in (LINGERING, ENDED):
            return 0
        p = self.reserve(HEADER + 8 if with_head else HEADER)
        put_header(p, type, 0, 0, 8 if with_head else 0, id)
        if with_head:
            put_be64(p + HEADER, self.head)
        return 0

    def send(self, long type, uint64_t id=0, str route not None="", bytes body not None=b"", long flags=0):
        """Queue a frame for the end of this turn; on a link that is over it does nothing. Raises `EncodeError`, and
        OverflowError for an id outside of 0 to 2**64 - 1."""
        cdef Py_ssize_t route_len, body_len = len(body)
        cdef const char *name
        cdef uint8_t *p
        try:
            name = PyUnicode_AsUTF8AndSize(route, &route_len)
        except UnicodeEncodeError as error:
            raise EncodeError(f"route: expected text that UTF-8 can hold: {error}") from None
        if not 1 <= type <= LAST_TYPE or flags & ~KNOWN_FLAGS:
            raise EncodeError(f"expected a type of 1 to {LAST_TYPE} and known flags, got {type} and {flags:#x}")
        if route_len > 255 or body_len > FRAME_MAX - route_len:
            raise EncodeError(
                f"expected a route of at most 255 bytes and {FRAME_MAX} in all, got {route_len} and {body_len}")
        if self.state in (LINGERING, ENDED):
            return
        p = self.reserve(HEADER + route_len + body_len)
        put_header(p, <uint8_t> type, <uint8_t> flags, <uint8_t> route_len, <uint32_t> (route_len + body_len), id)
        memcpy(p + HEADER, name, route_len)
        memcpy(p + HEADER + route_len, PyBytes_AS_STRING(body), body_len)

    def deliver(self, uint64_t seq, str route not None, bytes body not None):
        """Queue inbox message number `seq`, and remember that it was sent."""
        Link.send(self, T_MSG, seq, route, body)
        self.sent = seq

    def confirm(self, uint64_t id):
        """Queue the ACK of a request, with `head` in it where `ack_head` says so."""
        self.put_number(T_ACK, id, self.ack_head)

    # Rooms.

    @property
    def room_count(self) -> int:
        """How many rooms it is in."""
        return self.rooms_len

    cdef void let_go(self) noexcept:
        cdef Room room
        while self.rooms_len:  # one by one: an emptied room's owner may have others leave, and so move its places
            self.rooms_len -= 1
            room = <Room> self.rooms[self.rooms_len].room
            room.drop_member(self.rooms[self.rooms_len].place)
            room.emptied()
            Py_DECREF(room)
        PyMem_Free(self.rooms)
        self.rooms = NULL
