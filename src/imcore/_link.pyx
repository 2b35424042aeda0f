"""Links: byte streams of frames, either side of the wire.

A link takes its stream's bytes as they come, hands the frames on where they lie, and gathers what is to be sent until
the end of the hub's turn. It knows which frame may come, by the table that it is given, and never what a message means.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from cpython.ref cimport Py_DECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy, memset

from ._codec cimport (BAD_MAGIC, FRAME_MAX, HEADER, KNOWN_FLAGS, LAST_TYPE, NAMES, fault_error, parse, put_be64,
                      put_header, size_wanted)
from ._hub cimport os_error
from ._output cimport chunk_drop, chunk_new, output_free, output_new, output_reserve, output_sent
from ._room cimport Room
from ._wheel cimport NO_TIMER

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
    PAD_MOST = 4096             # wire: "The frame"
    LINGER_MS = 3000            # how long a closed link waits for the other side to close
    T_PONG = 4
    T_MSG = 5
    T_ACK = 6


@cython.no_gc_clear  # its end needs its hub
cdef class Link:
    """One byte stream of frames. Subclass it, and say what to do by `on_frame`, `on_fault`, `on_taken`, `on_deadline`
    and `on_end`; all are called on the loop's thread, and what they raise ends the link.

    hub: the loop's. moves: which frame may come, and what is done with it (`session.moves`). max_frame: the limit on a
    frame's length field, in bytes.
    """

    def __cinit__(self, Hub hub not None, moves: bytes, max_frame: int, *args, **kwargs):
        self.hub = hub
        self.io.fd = -1
        self.timer = NO_TIMER
        self.state = UNBOUND
        Link.expect_moves(self, moves, max_frame)

    def __init__(self, hub, moves: bytes, max_frame: int):
        pass

    def __dealloc__(self):
        if self.hub is None:  # it never came to be
            return
        if self.timer != NO_TIMER and self.hub.wheel is not None:
            self.hub.wheel.cancel_c(self.timer)
        if self.state != UNBOUND and not self.flags & SPOKEN:  # its carrier forgot it
            self.hub.links -= 1
        self.leave_all()
        self.tail_done()
        if self.io.output != NULL:
            output_free(self.io.output)

    # What the owner is told. The defaults do the least that is right.

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        """A frame that the table says to hand on."""

    def on_fault(self, error) -> None:
        """The other side broke the contract (`error`: FrameError). Say so; the link is closed on return."""
        self.abort()

    def on_foreign(self, first: bytes) -> bool:
        """The stream begins with `first`, and not with a frame: seen to by `release` or `close` (True), or a fault."""
        return False

    def on_taken(self) -> None:
        """`taken` has grown: told once a turn, however many acknowledgements came."""

    def on_ping(self) -> None:
        """The other side asks for `head` (where `pong_head` says so): the last moment to correct it."""

    def on_deadline(self) -> None:
        """The time given by `expect` is over; told once."""
        self.abort()

    def on_end(self, error: Exception | None) -> None:
        """The link is over: closed by either side (None), or broken. Told exactly once to who had a carrier."""

    # Its carrier.

    def attach(self, sock) -> None:
        """Take over a connected stream socket: the descriptor is the link's now. Raises OSError, and closes it."""
        try:
            sock.setblocking(False)
            self.adopt(sock.fileno())
        except BaseException:
            sock.close()
            raise
        sock.detach()

    cpdef adopt(self, int fd):
        """`attach` for a bare, non-blocking descriptor; it stays the caller's if this raises."""
        if self.state != UNBOUND or self.hub.closed:
            raise RuntimeError("expected a new link of an open hub")
        self.hub.bind(self, fd)
        self.state = READING
        self.hub.links += 1
        if self.io.output != NULL:
            self.hub.mark(self)

    def carry(self, carrier) -> None:
        """Ride on another carrier: `carrier.write(data: bytes)`, `.pause(bool)`, `.end()` (after what was written) and
        `.abort()` are called; it calls `feed` or `filled`, `block` and `lost`."""
        if self.state != UNBOUND or self.hub.closed:
            raise RuntimeError("expected a new link of an open hub")
        self.hub.carried.add(self)
        self.carrier = carrier
        self.state = READING
        self.hub.links += 1
        if self.io.output != NULL:
            self.hub.mark(self)

    def feed(self, data) -> None:
        """The stream's next bytes, any contiguous buffer. Not from within a callback of this very link."""
        cdef const uint8_t[::1] view = data
        if self.flags & BUSY:
            raise RuntimeError("feed: expected the bytes that came before to be taken in")
        if view.shape[0]:
            self.arrived(&view[0], view.shape[0])

    def filled(self, n: int) -> None:
        """The stream's next n bytes are in `hub.buffer`. Not from within a callback of any link."""
        if not 0 <= n <= INPUT:
            raise ValueError(f"expected 0 to {INPUT} bytes, got {n}")
        if self.flags & BUSY:
            raise RuntimeError("filled: expected the bytes that came before to be taken in")
        self.arrived(self.hub.input, n)

    def block(self, on: bool) -> None:
        """The carrier takes no more (True), or does again."""
        if on:
            self.flags |= BLOCKED
        else:
            self.flags &= ~BLOCKED
            if self.flags & MUTED:
                self.renew()
            if self.io.output != NULL:
                self.hub.mark(self)

    def lost(self, error: Exception | None) -> None:
        """The carrier is gone."""
        self.carrier = None
        self.finish(error)

    # Its life.

    @property
    def open(self) -> bool:
        """Frames may come and go."""
        return self.state in (READING, HELD)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self.io.output.bytes if self.io.output != NULL else 0

    @property
    def offset(self) -> int:
        """Where in the stream the next frame starts, in bytes."""
        return self.start

    def fileno(self) -> int:
        """The descriptor, or -1."""
        return self.io.fd

    def expect_moves(self, moves: bytes, max_frame: int) -> None:
        """From the next frame on these may come, up to this limit."""
        if len(moves) != 128:
            raise ValueError(f"moves: expected 128 bytes, got {len(moves)}")
        if not 0 < max_frame <= FRAME_MAX:
            raise ValueError(f"max_frame: expected 1 to {FRAME_MAX} bytes, got {max_frame}")
        self.moves = moves
        self.limit = max_frame

    def hold(self) -> None:
        """Look at no more frames until `proceed`; what comes meanwhile waits."""
        if self.state == READING:
            self.state = HELD

    def proceed(self) -> None:
        """Go on after `hold`, first with what has come."""
        cdef chunk_t *whole
        if self.state != HELD:
            return
        self.state = READING
        if self.flags & BUSY:  # within `on_frame`: what is behind that frame follows by itself
            return
        whole, self.tail = self.tail, NULL
        if whole != NULL:
            self.take_in(whole.data, whole.len)
            chunk_drop(whole)
        self.regulate()

    def expect(self, seconds: float, renew: bool = False) -> None:
        """`on_deadline` in so many seconds, instead of what was expected before. renew: every byte that comes moves it,
        and a PING that promises less moves it forward. On a link that is over it does nothing."""
        if not seconds >= 0:
            raise ValueError(f"seconds: expected 0 or more, got {seconds}")
        if self.state not in (LINGERING, ENDED):
            self.arm(seconds, renew)

    cdef int arm(self, double seconds, bint renew) except -1:
        cdef double ticks = min(seconds * 1000 / self.hub.tick_ms, <double> 0xFFFFFFFE)
        cdef uint64_t deadline
        self.patience = <uint32_t> ticks
        if self.patience < ticks or not self.patience:
            self.patience += 1
        self.most_patience = self.patience
        deadline = self.hub.ticks() + self.patience + 1  # this tick has begun already
        if self.timer == NO_TIMER:
            self.timer = self.hub.wheel.arm_c(deadline, <void *> self)
        else:
            self.hub.wheel.hasten_c(self.timer, deadline)
        self.flags = self.flags | RENEWS if renew else self.flags & ~RENEWS
        return self.hub.schedule_tick()

    def close(self) -> None:
        """Send what is queued, then end; nothing that comes is looked at any more."""
        if self.state == UNBOUND:
            self.finish(None)
        if self.state not in (READING, HELD):
            return
        self.state = LINGERING
        self.tail_done()
        self.leave_all()
        try:
            self.arm(LINGER_MS / 1000.0, False)
            self.mute(False)
            if self.io.output == NULL:
                self.sent_out()
        except BaseException as error:  # the carrier's
            self.hub.blame(self, error)
        self.speak_end(None)

    def abort(self) -> None:
        """End now; what is queued is dropped."""
        self.finish(None)

    def release(self) -> object:
        """End now, and let the carrier live: the bare descriptor, or what `carry` was given, is the caller's."""
        cdef object held = self.io.fd if self.io.fd >= 0 else self.carrier
        if self.hub.release(self, False):
            Py_DECREF(self)  # the caller still holds it
        self.carrier = None
        self.finish(None)
        return held

    cdef void tail_done(self) noexcept:
        if self.tail != NULL:
            chunk_drop(self.tail)
            self.tail = NULL

    cdef void speak_end(self, object error) noexcept:
        if self.flags & SPOKEN:
            return
        self.flags |= SPOKEN
        self.hub.links -= 1
        try:
            self.on_end(error)
        except BaseException as raised:
            self.hub.report(self, raised)

    cdef void finish(self, object error) noexcept:
        cdef object carrier = self.carrier
        cdef bint had_slot
        if self.state == ENDED:
            return
        if self.state == UNBOUND:
            self.flags |= SPOKEN
        self.state = ENDED
        self.flags &= ~RENEWS
        self.carrier = None
        self.tail_done()
        self.leave_all()
        if self.io.output != NULL:
            output_free(self.io.output)
            self.io.output = NULL
        if self.timer != NO_TIMER:
            self.hub.wheel.cancel_c(self.timer)
            self.timer = NO_TIMER
        had_slot = self.hub.release(self, True)  # before anyone is told: who opens a connection may get its number
        try:
            self.hub.carried.discard(self)
            if carrier is not None:
                carrier.abort()
        except BaseException as raised:
            self.hub.report(self, raised)
        self.speak_end(error)
        if had_slot:
            Py_DECREF(self)  # the caller still holds it

    # What comes.

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

    cdef int arrived(self, const uint8_t *p, size_t n) except -1:
        if self.state not in (READING, HELD):
            return 0
        self.hub.bytes_in += n
        self.renew()
        # where `aim` said
        if self.tail != NULL and self.tail.len < self.tail.cap and p == self.tail.data + self.tail.len:
            self.tail.len += n
            n = 0
        self.take_in(p, n)
        return 0

    cdef void renew(self) noexcept:
        """A sign of life: the deadline moves."""
        if self.flags & RENEWS:
            self.hub.wheel.refresh_c(self.timer, self.hub.ticks() + self.patience + 1)

    cdef void take_in(self, const uint8_t *p, size_t n) noexcept:
        self.flags |= BUSY
        try:
            self.received(p, n)
        except BaseException as error:
            self.hub.blame(self, error)
        self.flags &= ~BUSY
        try:
            self.hub.spill()
            self.regulate()
        except BaseException as error:
            self.hub.blame(self, error)

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

    cdef int sent_out(self) except -1:
        """After the flush: what went, what is stuck, what broke."""
        cdef int sent = self.io.sent
        cdef output_t *out = self.io.output
        self.io.sent = 0
        if self.state == ENDED:
            return 0
        if self.carrier is not None and out != NULL and not self.flags & BLOCKED:
            data = b"".join([(<const char *> out.segs[i].chunk.data)[out.segs[i].start:out.segs[i].end]
                             for i in range(out.first, out.first + out.count)])
            output_free(out)
            self.io.output = NULL
            self.hub.bytes_out += len(data)
            self.carrier.write(data)
        elif sent > 0:
            self.hub.bytes_out += sent
            if self.flags & MUTED:  # its pings are not read, but it takes what it is sent
                self.renew()
            output_sent(out, sent)
            if out.bytes:  # more than one call takes, or more than the kernel does: the next one tells
                self.hub.mark(self)
        elif sent == -EAGAIN:
            self.flags |= BLOCKED
            self.hub.watch(self)
        elif sent < 0:
            self.finish(os_error(-sent))
            return 0
        out = self.io.output
        if out != NULL and out.bytes == 0:
            output_free(out)
            self.io.output = NULL
        if self.state == LINGERING and self.io.output == NULL and not self.flags & SHUT:
            self.flags |= SHUT
            if self.carrier is not None:
                self.carrier.end()
            elif self.hub.shut(self) < 0:
                self.finish(None)
        return self.regulate()

    cdef int regulate(self) except -1:
        """Ask for more bytes, or not: who does not read its answers is not asked for more questions."""
        cdef size_t waiting = self.io.output.bytes if self.io.output != NULL else 0
        if self.state == HELD:
            return self.mute(True) if self.tail != NULL else 0
        if self.state == READING:
            if waiting > self.hub.window:
                return self.mute(True)
            if waiting == 0 or waiting < self.hub.window // 2:
                return self.mute(False)
        return 0

    cdef int mute(self, bint on) except -1:
        if on == ((self.flags & MUTED) != 0):
            return 0
        self.flags ^= MUTED
        if not on:
            self.renew()  # what it said meanwhile is read from now on
        if self.carrier is not None:
            self.carrier.pause(on)
        elif self.io.fd >= 0:
            self.hub.watch(self)
        return 0

    # Rooms.

    @property
    def room_count(self) -> int:
        """How many rooms it is in."""
        return self.rooms_len

    cdef void leave_all(self) noexcept:
        cdef member_t *rooms = self.rooms
        cdef uint16_t i, n = self.rooms_len
        cdef Room room
        self.rooms = NULL
        self.rooms_len = 0
        for i in range(n):
            room = <Room> rooms[i].room
            room.drop_member(rooms[i].place)
            room.emptied()
            Py_DECREF(room)
        PyMem_Free(rooms)
