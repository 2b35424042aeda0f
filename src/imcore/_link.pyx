"""Links: byte streams of frames, either side, and the turn of the loop that reads, relays and sends for all of them.

This is the only module that touches a socket. A turn takes what the kernel has for each ready link into one shared
buffer, hands its frames on where they lie, gathers what they cause, and sends it with one call for each link. It knows
which frame may come (by the table it is given), never what a message means.
"""

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy, memset

from ._codec cimport FRAME_MAX, HEADER, NAMES, fault_error, parse, put_be64, put_header, size_wanted
from ._output cimport (SMALL_CHUNK, chunk_drop, chunk_new, output_free, output_new, output_push, output_reserve,
                       output_sent, segment_t)
from ._wheel cimport NO_TIMER

import os

from .errors import BadFrame, EncodeError

cdef extern from "poller.h" nogil:
    ctypedef struct ready_t "imcore_ready":
        int fd
        int readable
        int writable
        int broken
    enum:
        IMCORE_ADD
        IMCORE_CHANGE
        SHUT_WR
    int poller_open()
    int poller_set(int poller, int how, int fd, int readable, int writable)
    int poller_drop(int poller, int fd)
    int poller_take(int poller, ready_t *ready, int most)
    int imcore_accept(int listener)
    void imcore_nodelay(int fd)
    ssize_t imcore_send(int fd, const output_t *out)
    uint64_t imcore_clock_ms()
    ssize_t recv(int fd, void *p, size_t n, int flags)
    int shutdown(int fd, int how)
    int close(int fd)

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
    INPUT = 64 * 1024           # the receive buffer: what one link gets of a turn
    NEW_INPUT = 8 * 1024        # and before it may send more than HELLO
    READY_MOST = 256
    ACCEPT_MOST = 64
    LINGER_MS = 3000            # how long a closed link waits for the other side to close
    OPEN_MOST = 64 * 1024       # a room's batch is handed out when it has grown to this
    BIG_FRAME = 16 * 1024       # from here on a relayed frame is not copied but shared
    T_PONG = 4
    T_MSG = 5
    T_ACK = 6
    F_ROOM = 2


cdef void timer_expired(void *hub, uint32_t timer, void *owner) noexcept:
    cdef Link link = <Link> owner
    link.timer = NO_TIMER
    try:
        if link.state == LINGERING:
            link.finish(None)
        else:
            link.on_deadline()
    except Exception as error:
        (<Hub> hub).blame(link, error)


cdef class Hub:
    """All links of one event loop, and its one receive buffer, poller and timer wheel.

    loop: the running asyncio or uvloop loop. tick_ms: the wheel's resolution, milliseconds. window: bytes that may wait
    for a link before room messages to it are dropped and its own requests are no longer read. native: False makes links
    ride on asyncio's transports only, as they do where there is no epoll.
    """

    def __cinit__(self, loop, *, tick_ms: int = 100, window: int = 256 * 1024, native: bool = True):
        self.loop = loop
        self.tick_ms = tick_ms
        self.window = window
        self.wheel = TimerWheel()
        self.origin = imcore_clock_ms()
        self.listeners = {}
        self.news = []
        self.open_rooms = []
        self.on_ready, self.on_flush, self.on_tick = self._ready, self._flush, self._tick
        self.input = <uint8_t *> PyMem_Malloc(INPUT)
        if self.input == NULL:
            raise MemoryError
        self.input_view = PyMemoryView_FromMemory(<char *> self.input, INPUT, PyBUF_WRITE)
        self.poller = poller_open() if native else -1
        if self.poller >= 0:
            loop.add_reader(self.poller, self.on_ready)

    def __dealloc__(self):
        PyMem_Free(self.input)
        PyMem_Free(self.slots)
        PyMem_Free(self.dirty)
        PyMem_Free(self.dirty_io)

    @property
    def native(self) -> bool:
        """True: links hold their descriptors themselves (`Link.attach`, `listen`)."""
        return self.poller >= 0

    @property
    def buffer(self) -> memoryview:
        """The receive buffer, for a carrier that fills it and calls `Link.filled` at once."""
        return self.input_view

    def listen(self, sock, factory) -> None:
        """Accept on a bound, listening, non-blocking stream socket; `factory()` makes the Link of each connection."""
        if poller_set(self.poller, IMCORE_ADD, sock.fileno(), True, False) < 0:
            raise OSError(errno, os.strerror(errno))
        self.listeners[sock.fileno()] = (sock, factory)

    def stop_listening(self, sock) -> None:
        """Accept no more on this socket, and close it; links live on."""
        if self.listeners.pop(sock.fileno(), None) is not None:
            poller_drop(self.poller, sock.fileno())
        sock.close()

    def close(self) -> None:
        """End every link at once, and let go of the loop. Calling it again does nothing."""
        cdef size_t fd
        if self.closed:
            return
        for sock, _ in list(self.listeners.values()):
            self.stop_listening(sock)
        for fd in range(self.slots_len):
            if self.slots[fd] != NULL:
                (<Link> self.slots[fd]).abort()
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        if self.poller >= 0:
            self.loop.remove_reader(self.poller)
            close(self.poller)
            self.poller = -1

    cdef uint64_t ticks(self) noexcept:
        return (imcore_clock_ms() - self.origin) // self.tick_ms

    cdef object blame(self, Link link, object error):
        """An owner's callback raised: that link ends, the others go on."""
        self.loop.call_exception_handler({"message": "imcore: a link's owner raised", "exception": error, "link": link})
        link.finish(error)

    def _ready(self) -> None:
        """A turn: read, hand on, relay, send."""
        cdef ready_t ready[READY_MOST]
        cdef int n = poller_take(self.poller, ready, READY_MOST)
        self.in_turn = True
        try:
            self.turn(ready, n)
        finally:
            self.finish_turn()

    cdef int turn(self, const void *taken, int n) except -1:
        cdef const ready_t *ready = <const ready_t *> taken
        cdef int i
        cdef Link link
        for i in range(n):
            if <size_t> ready[i].fd >= self.slots_len or self.slots[ready[i].fd] == NULL:
                self.accept(ready[i].fd)
                continue
            link = <Link> self.slots[ready[i].fd]
            try:
                if ready[i].writable:
                    link.flags &= ~BLOCKED
                    link.watch()
                    self.mark(link)
                if ready[i].broken and (link.state == HELD or link.flags & MUTED):
                    link.finish(None)  # nobody is left to read for, and the kernel would say so at every turn
                elif ready[i].readable or ready[i].broken:
                    link.readable()
            except Exception as error:
                self.blame(link, error)
        return 0

    def _flush(self) -> None:
        self.flush_scheduled = False
        self.finish_turn()

    def _tick(self) -> None:
        self.timer = None
        self.wheel.advance_c(self.ticks(), timer_expired, <void *> self)
        self.schedule_tick()

    cdef int schedule_tick(self) except -1:
        """One timer of the loop for all deadlines; moved forward when an earlier one comes."""
        cdef uint64_t due = self.wheel.next_c(), now = self.ticks()
        if self.closed or due == <uint64_t> -1 or (self.timer is not None and self.next_tick <= due):
            return 0
        if self.timer is not None:
            self.timer.cancel()
        self.next_tick = max(due, now + 1)
        self.timer = self.loop.call_later((self.next_tick - now) * self.tick_ms / 1000, self.on_tick)
        return 0

    cdef int accept(self, int listener) except -1:
        cdef int fd, i
        cdef object entry = self.listeners.get(listener)
        cdef Link link
        if entry is None:  # closed earlier in this turn
            return 0
        for i in range(ACCEPT_MOST):
            fd = imcore_accept(listener)
            if fd < 0:
                if errno == ECONNABORTED:
                    continue
                if errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):  # asking again at once would only spin
                    poller_drop(self.poller, listener)
                    self.loop.call_later(0.5, self._listen_again, listener)
                return 0
            try:
                link = entry[1]()
                link.adopt(fd)
            except Exception as error:
                self.loop.call_exception_handler({"message": "imcore: no link could be made", "exception": error})
        return 0

    def _listen_again(self, listener: int) -> None:
        if listener in self.listeners:
            poller_set(self.poller, IMCORE_ADD, listener, True, False)

    cdef int hold_slot(self, int fd, Link link) except -1:
        cdef size_t i, want
        cdef void **grown
        if <size_t> fd >= self.slots_len:
            want = max(<size_t> fd + 1, self.slots_len + self.slots_len // 4, <size_t> 64)
            grown = <void **> PyMem_Realloc(self.slots, want * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            for i in range(self.slots_len, want):
                grown[i] = NULL
            self.slots = grown
            self.slots_len = want
        Py_INCREF(link)
        self.slots[fd] = <void *> link
        return 0

    cdef int mark(self, Link link) except -1:
        """The link has something to send at the end of this turn."""
        cdef void *grown
        cdef uint32_t cap
        if link.flags & (DIRTY | BLOCKED) or link.state == UNBOUND:
            return 0
        if self.dirty_len == self.dirty_cap:
            cap = max(self.dirty_cap * 2, <uint32_t> 64)
            grown = PyMem_Realloc(self.dirty, cap * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            self.dirty = <void **> grown
            grown = PyMem_Realloc(self.dirty_io, cap * sizeof(io_t *))
            if grown == NULL:
                raise MemoryError
            self.dirty_io = <io_t **> grown
            self.dirty_cap = cap
        link.flags |= DIRTY
        Py_INCREF(link)
        self.dirty[self.dirty_len] = <void *> link
        self.dirty_io[self.dirty_len] = &link.io
        self.dirty_len += 1
        if not self.in_turn and not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self.on_flush)
        return 0

    cdef int spill(self) except -1:
        """Hand out what the rooms gathered since the last link's bytes."""
        cdef Room room
        if self.open_rooms:
            for room in self.open_rooms:
                room.hand_out()
            self.open_rooms.clear()
        return 0

    cdef int finish_turn(self) except -1:
        cdef Link link
        cdef list news
        self.in_turn = True
        try:
            self.spill()
            while self.news or self.dirty_len:
                news, self.news = self.news, []
                for link in news:
                    link.flags &= ~TAKEN
                    if link.state == READING:
                        try:
                            link.on_taken()
                        except Exception as error:
                            self.blame(link, error)
                self.spill()
                self.flush()
        finally:
            self.in_turn = False
        return 0

    cdef int flush(self) except -1:
        """Send for all that have something: the calls themselves without the interpreter's lock."""
        cdef uint32_t i, n = self.dirty_len
        cdef io_t *io
        cdef ssize_t sent
        cdef uint64_t total = 0
        cdef Link link
        cdef void **dirty = self.dirty
        cdef io_t **ios = self.dirty_io
        with nogil:
            for i in range(n):
                io = ios[i]
                io.error = 0
                while io.fd >= 0 and io.output != NULL and io.output.bytes:
                    sent = imcore_send(io.fd, io.output)
                    if sent >= 0:
                        total += sent
                        output_sent(io.output, sent)
                    elif errno != EINTR:
                        io.error = errno
                        break
        self.bytes_out += total
        self.dirty = NULL
        self.dirty_io = NULL
        self.dirty_len = self.dirty_cap = 0
        for i in range(n):
            link = <Link> dirty[i]
            link.flags &= ~DIRTY
            try:
                link.sent_out()
            except Exception as error:
                self.blame(link, error)
            Py_DECREF(link)
        if self.dirty == NULL:
            self.dirty = dirty
            self.dirty_io = ios
            self.dirty_cap = n
        else:  # a callback has sent more: its list stands
            PyMem_Free(dirty)
            PyMem_Free(ios)
        return 0


cdef class Link:
    """One byte stream of frames. Subclass it, and say what to do by `on_frame`, `on_fault`, `on_taken`, `on_deadline`
    and `on_end`; all are called on the loop's thread.

    hub: the loop's. moves: which frame may come, and what is done with it (`session.moves`). max_frame: the limit on a
    frame's length field, in bytes.
    """

    def __cinit__(self, Hub hub not None, moves: bytes, max_frame: int, *args, **kwargs):
        self.hub = hub
        self.io.fd = -1
        self.timer = NO_TIMER
        self.state = UNBOUND
        self.expect_moves(moves, max_frame)

    def __init__(self, hub, moves: bytes, max_frame: int):
        pass

    def __dealloc__(self):
        if self.timer != NO_TIMER:
            self.hub.wheel.cancel_c(self.timer)
        if self.io.fd >= 0:
            close(self.io.fd)
        if self.tail != NULL:
            chunk_drop(self.tail)
        if self.io.output != NULL:
            output_free(self.io.output)
        PyMem_Free(self.rooms)

    # What the owner is told. The defaults do the least that is right.

    def on_frame(self, type: int, flags: int, id: int, route: str, body: bytes) -> None:
        """A frame that the table says to hand on."""

    def on_fault(self, error: FrameError) -> None:
        """The other side broke the contract; nothing more is read. Say so and `close`, or `abort`."""
        self.abort()

    def on_taken(self) -> None:
        """`taken` has grown: told once a turn, however many acknowledgements came."""

    def on_deadline(self) -> None:
        """The time given by `expect` is over."""
        self.abort()

    def on_end(self, error: Exception | None) -> None:
        """The link is over: closed by either side (None), or broken. Told exactly once."""

    # Its carrier.

    def attach(self, sock) -> None:
        """Take over a connected stream socket: the descriptor is the link's from now on."""
        sock.setblocking(False)
        self.adopt(sock.detach())

    cpdef adopt(self, int fd):
        """`attach` for a bare, non-blocking descriptor."""
        if self.state != UNBOUND:
            close(fd)
            raise RuntimeError("the link has a carrier already")
        imcore_nodelay(fd)
        self.io.fd = fd
        self.state = READING
        self.hub.links += 1
        self.hub.hold_slot(fd, self)
        if poller_set(self.hub.poller, IMCORE_ADD, fd, True, False) < 0:
            error = OSError(errno, os.strerror(errno))
            self.finish(error)
            raise error
        if self.io.output != NULL:
            self.hub.mark(self)

    def carry(self, carrier) -> None:
        """Ride on another carrier: `carrier.write(data: bytes)`, `.pause(bool)`, `.end()` (after what was written) and
        `.abort()` are called; it calls `feed` or `filled`, `block` and `lost`."""
        if self.state != UNBOUND:
            raise RuntimeError("the link has a carrier already")
        self.carrier = carrier
        self.state = READING
        self.hub.links += 1
        if self.io.output != NULL:
            self.hub.mark(self)

    def feed(self, data) -> None:
        """The stream's next bytes, any contiguous buffer."""
        cdef const uint8_t[::1] view = data
        if view.shape[0]:
            self.received(&view[0], view.shape[0])
            self.hub.spill()

    def filled(self, n: int) -> None:
        """The stream's next n bytes are in `hub.buffer`."""
        if not 0 <= n <= INPUT:
            raise ValueError(f"expected 0 to {INPUT} bytes, got {n}")
        self.received(self.hub.input, n)
        self.hub.spill()

    def block(self, on: bool) -> None:
        """The carrier takes no more (True), or does again."""
        if on:
            self.flags |= BLOCKED
        else:
            self.flags &= ~BLOCKED
            if self.io.output != NULL:
                self.hub.mark(self)

    def lost(self, error: Exception | None) -> None:
        """The carrier is gone."""
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
        self.mute(False)
        whole, self.tail = self.tail, NULL
        if whole != NULL:
            try:
                self.consume(whole.data, whole.len)
            finally:
                chunk_drop(whole)
            self.hub.spill()

    def expect(self, seconds: float, renew: bool = False) -> None:
        """`on_deadline` in so many seconds. renew: every byte that comes, moves it."""
        cdef uint64_t now = self.hub.ticks()
        self.patience = self.most_patience = max(1, min(<uint64_t> (seconds * 1000 / self.hub.tick_ms), <uint64_t> 0xFFFFFFFF))
        self.flags = self.flags | RENEWS if renew else self.flags & ~RENEWS
        if self.timer == NO_TIMER:
            self.timer = self.hub.wheel.arm_c(now + self.patience + 1, <void *> self)
        else:
            self.hub.wheel.hasten_c(self.timer, now + self.patience + 1)
        self.hub.schedule_tick()

    def close(self) -> None:
        """Send what is queued, then end; nothing that comes is looked at any more."""
        if self.state not in (READING, HELD):
            if self.state == UNBOUND:
                self.finish(None)
            return
        self.state = LINGERING
        self.tail_done()
        self.leave_all()
        self.speak_end(None)
        self.expect(LINGER_MS / 1000)
        if self.state == LINGERING:
            self.mute(False)
            if self.io.output == NULL:
                self.sent_out()

    def abort(self) -> None:
        """End now; what is queued is dropped."""
        self.finish(None)

    cdef int tail_done(self) except -1:
        if self.tail != NULL:
            chunk_drop(self.tail)
            self.tail = NULL
        return 0

    cdef int speak_end(self, object error) except -1:
        if not self.flags & SPOKEN:
            self.flags |= SPOKEN
            self.hub.links -= 1
            self.on_end(error)
        return 0

    cdef int finish(self, object error) except -1:
        cdef int fd = self.io.fd
        cdef object carrier = self.carrier
        if self.state == ENDED:
            return 0
        if self.state == UNBOUND:
            self.flags |= SPOKEN
        self.state = ENDED
        self.carrier = None
        self.tail_done()
        self.leave_all()
        if self.io.output != NULL:
            output_free(self.io.output)
            self.io.output = NULL
        if self.timer != NO_TIMER:
            self.hub.wheel.cancel_c(self.timer)
            self.timer = NO_TIMER
        if fd >= 0:
            self.io.fd = -1
            close(fd)  # leaves the poller by itself
        if carrier is not None:
            carrier.abort()
        try:
            self.speak_end(error)
        finally:
            if fd >= 0:
                self.hub.slots[fd] = NULL
                Py_DECREF(self)  # the caller still holds it
        return 0

    # What comes.

    cdef int readable(self) except -1:
        cdef uint8_t *into = self.hub.input
        cdef size_t most = INPUT, want = 0
        cdef ssize_t n
        cdef bint straight = False
        if self.state == HELD:
            self.mute(True)
            return 0
        if self.tail != NULL and self.state == READING:
            want = size_wanted(self.tail.data, self.tail.len) - self.tail.len
            if want > INPUT:  # the rest of a big frame goes to its place at once
                if self.tail.cap == self.tail.len:
                    self.grow_tail(min(self.tail.len + want, self.tail.len * 2))
                into = self.tail.data + self.tail.len
                most = self.tail.cap - self.tail.len
                straight = True
        elif self.limit <= NEW_INPUT:
            most = NEW_INPUT
        n = recv(self.io.fd, into, most, 0)
        if n > 0:
            if self.state == LINGERING:
                return 0
            if straight:
                self.hub.bytes_in += n
                self.tail.len += n
                if self.flags & RENEWS:
                    self.hub.wheel.refresh_c(self.timer, self.hub.ticks() + self.patience + 1)
                return 0  # the last piece, of at most INPUT, comes by `received`
            self.received(into, n)
            self.hub.spill()
        elif n == 0:
            self.finish(None)
        elif errno not in (EAGAIN, EINTR):
            self.finish(OSError(errno, os.strerror(errno)))
        return 0

    cdef int received(self, const uint8_t *p, size_t n) except -1:
        cdef size_t take
        cdef int64_t size
        cdef frame_t frame
        cdef chunk_t *whole
        self.hub.bytes_in += n
        if self.flags & RENEWS and self.timer != NO_TIMER:
            self.hub.wheel.refresh_c(self.timer, self.hub.ticks() + self.patience + 1)
        while n and self.tail != NULL and self.state == READING:
            take = min(size_wanted(self.tail.data, self.tail.len) - self.tail.len, n)
            self.keep(p, take)
            p += take
            n -= take
            size = parse(self.tail.data, self.tail.len, self.limit, &frame)
            if size == 0:
                continue
            whole, self.tail = self.tail, NULL
            try:
                if size < 0:
                    self.on_fault(fault_error(size, &frame, self.limit, self.start))
                    return 0
                self.dispatch(&frame, whole)
            finally:
                chunk_drop(whole)
        if self.state == READING:
            self.consume(p, n)
        elif self.state == HELD and n:
            self.keep(p, n)
            self.mute(True)
        if self.io.output != NULL and self.io.output.bytes > self.hub.window:
            self.mute(True)  # who does not read its answers is not asked for more questions
        return 0

    cdef int consume(self, const uint8_t *p, size_t n) except -1:
        cdef size_t at = 0
        cdef int64_t size
        cdef frame_t frame
        while at < n and self.state == READING:
            size = parse(p + at, n - at, self.limit, &frame)
            if size <= 0:
                if size < 0:
                    self.on_fault(fault_error(size, &frame, self.limit, self.start))
                    return 0
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
        """An incomplete frame waits for its rest; its memory grows with what came, not with what was said."""
        cdef size_t have = self.tail.len if self.tail != NULL else 0
        if self.tail == NULL or have + n > self.tail.cap:
            self.grow_tail(max(have + n, min(have * 2, size_wanted(self.tail.data, have) if have else 0)))
        memcpy(self.tail.data + have, p, n)
        self.tail.len = have + n
        return 0

    cdef int dispatch(self, const frame_t *frame, chunk_t *whole) except -1:
        cdef uint8_t action = (<const uint8_t *> PyBytes_AS_STRING(self.moves))[frame.type << 3 | frame.flags]
        cdef uint64_t seconds
        self.hub.frames_in += 1
        if action == DO_RELAY:
            self.relay(frame, whole)
        elif action == DO_TAKE:
            if frame.id > self.sent:
                self.on_fault(BadFrame(f"ACK of {frame.id}, but only {self.sent} was sent", self.start))
            elif frame.id > self.taken:
                self.taken = frame.id
                if not self.flags & TAKEN:
                    self.flags |= TAKEN
                    self.hub.news.append(self)
                    if not self.hub.in_turn and not self.hub.flush_scheduled:
                        self.hub.flush_scheduled = True
                        self.hub.loop.call_soon(self.hub.on_flush)
        elif action == DO_ANSWER:
            if frame.body_len not in (0, 2):
                self.on_fault(BadFrame(f"PING: expected a body of 0 or 2 bytes, got {frame.body_len}", self.start))
                return 0
            if frame.body_len and self.flags & RENEWS:
                seconds = frame.body[0] << 8 | frame.body[1]
                self.patience = max(1, min(<uint64_t> self.most_patience, seconds * 1500 // self.hub.tick_ms))
                self.hub.wheel.hasten_c(self.timer, self.hub.ticks() + self.patience + 1)
                self.hub.schedule_tick()
            self.put_number(T_PONG, frame.id, self.pong_head)
        elif action == DO_HAND:
            self.on_frame(
                frame.type, frame.flags, frame.id,
                PyUnicode_DecodeUTF8(<const char *> frame.route, frame.route_len, NULL) if frame.route_len else "",
                PyBytes_FromStringAndSize(<const char *> frame.body, frame.body_len),
            )
        elif action != DO_IGNORE:
            self.on_fault(BadFrame(f"{NAMES[frame.type]} may not come now, or not from this side", self.start))
        self.start += HEADER + frame.length
        return 0

    # What goes.

    cdef uint8_t *reserve(self, size_t n) except NULL:
        cdef uint8_t *p
        if self.io.output == NULL:
            self.io.output = output_new()
            if self.io.output == NULL:
                raise MemoryError
        p = output_reserve(self.io.output, n)
        if p == NULL:
            raise MemoryError
        self.hub.frames_out += 1
        self.hub.mark(self)
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

    def send(self, type: int, id: int = 0, route: str = "", body: bytes = b"", flags: int = 0) -> None:
        """Queue a frame for the end of this turn; on a link that is over it does nothing. Raises `EncodeError`."""
        cdef Py_ssize_t route_len
        cdef const char *name = PyUnicode_AsUTF8AndSize(route, &route_len)
        cdef Py_ssize_t body_len = len(body)
        cdef uint8_t *p
        if route_len > 255 or body_len > FRAME_MAX - route_len:
            raise EncodeError(f"expected a route of at most 255 bytes and {FRAME_MAX} in all, got {route_len} and {body_len}")
        if self.state in (LINGERING, ENDED):
            return
        p = self.reserve(HEADER + route_len + body_len)
        put_header(p, type, flags, <uint8_t> route_len, <uint32_t> (route_len + body_len), id)
        memcpy(p + HEADER, name, route_len)
        memcpy(p + HEADER + route_len, PyBytes_AS_STRING(body), body_len)

    def deliver(self, seq: int, route: str, body: bytes) -> None:
        """Queue inbox message number `seq`, and remember that it was sent."""
        self.send(T_MSG, seq, route, body)
        self.sent = seq

    def confirm(self, id: int) -> None:
        """Queue the ACK of a request, with `head` in it where `ack_head` says so."""
        self.put_number(T_ACK, id, self.ack_head)

    cdef int sent_out(self) except -1:
        """After the flush: what went, what is stuck, what broke."""
        cdef int error = self.io.error
        cdef output_t *out = self.io.output
        self.io.error = 0
        if self.state == ENDED:
            return 0
        if self.carrier is not None and out != NULL and not self.flags & BLOCKED:
            data = b"".join([(<const char *> out.segs[i].chunk.data)[out.segs[i].start:out.segs[i].end]
                             for i in range(out.first, out.first + out.count)])
            output_free(out)
            self.io.output = out = NULL
            self.hub.bytes_out += len(data)
            self.carrier.write(data)
        elif error == EAGAIN:
            self.flags |= BLOCKED
            self.watch()
        elif error:
            self.finish(OSError(error, os.strerror(error)))
            return 0
        if out != NULL and out.bytes == 0:
            output_free(out)
            self.io.output = out = NULL
        if self.state == READING and self.flags & MUTED and (out == NULL or out.bytes < self.hub.window // 2):
            self.mute(False)
        if self.state == LINGERING and out == NULL:
            if self.carrier is not None:
                self.carrier.end()
            elif shutdown(self.io.fd, SHUT_WR) < 0:
                self.finish(None)
        return 0

    cdef int watch(self) except -1:
        """Tell the poller what this link waits for."""
        if self.io.fd >= 0:
            poller_set(self.hub.poller, IMCORE_CHANGE, self.io.fd, not self.flags & MUTED, (self.flags & BLOCKED) != 0)
        return 0

    cdef int mute(self, bint on) except -1:
        if on == ((self.flags & MUTED) != 0) or self.state in (UNBOUND, ENDED):
            return 0
        self.flags ^= MUTED
        if self.carrier is not None:
            self.carrier.pause(on)
        else:
            self.watch()
        return 0

    # Rooms.

    @property
    def room_count(self) -> int:
        """How many rooms it is in."""
        return self.rooms_len

    cdef int leave_all(self) except -1:
        cdef member_t *rooms = self.rooms
        cdef uint16_t i, n = self.rooms_len
        self.rooms = NULL
        self.rooms_len = 0
        for i in range(n):
            room = <Room> rooms[i].room
            room.drop_member(rooms[i].place)
            Py_DECREF(room)
        PyMem_Free(rooms)
        return 0

    cdef int relay(self, const frame_t *frame, chunk_t *whole) except -1:
        """A message for a room: straight to its members if this link is one of them, else to the owner to decide."""
        cdef uint16_t i
        cdef Room room
        for i in range(self.rooms_len):
            room = <Room> self.rooms[i].room
            if len(room.route) == frame.route_len and not memcmp(PyBytes_AS_STRING(room.route), frame.route, frame.route_len):
                room.add(frame, whole)
                if frame.id:
                    self.put_number(T_ACK, frame.id, False)
                return 0
        self.on_frame(
            frame.type, frame.flags, frame.id,
            PyUnicode_DecodeUTF8(<const char *> frame.route, frame.route_len, NULL),
            PyBytes_FromStringAndSize(<const char *> frame.body, frame.body_len),
        )
        return 0


cdef class Room:
    """Links that hear the same. A message is encoded once for all of them.

    name: at most 255 bytes of UTF-8; raises `EncodeError`.
    """

    def __cinit__(self, Hub hub not None, str name not None):
        self.hub = hub
        self.name = name
        self.route = name.encode()
        if not 0 < len(self.route) <= 255:
            raise EncodeError(f"room: expected a name of 1 to 255 bytes, got {len(self.route)}")

    def __dealloc__(self):
        if self.open != NULL:
            chunk_drop(self.open)
        PyMem_Free(self.members)

    def __len__(self) -> int:
        return self.members_len

    def join(self, Link link not None) -> bool:
        """The link hears what comes from now on; False if it is in already, or over."""
        cdef void *grown
        if not link.open or self.holds(link):
            return False
        self.hand_out()  # what came before is not for it
        if self.members_len == self.members_cap:
            grown = PyMem_Realloc(self.members, (self.members_cap * 2 + 1) * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            self.members = <void **> grown
            self.members_cap = self.members_cap * 2 + 1
        grown = PyMem_Realloc(link.rooms, (link.rooms_len + 1) * sizeof(member_t))
        if grown == NULL:
            raise MemoryError
        link.rooms = <member_t *> grown
        link.rooms[link.rooms_len].room = <void *> self
        link.rooms[link.rooms_len].place = self.members_len
        link.rooms_len += 1
        Py_INCREF(self)
        self.members[self.members_len] = <void *> link
        self.members_len += 1
        return True

    def holds(self, Link link not None) -> bool:
        """The link is in."""
        cdef uint16_t i
        for i in range(link.rooms_len):
            if link.rooms[i].room == <void *> self:
                return True
        return False

    def on_empty(self) -> None:
        """The last member has left."""

    def leave(self, Link link not None) -> bool:
        """The link hears no more; False if it was not in."""
        cdef uint16_t i
        for i in range(link.rooms_len):
            if link.rooms[i].room == <void *> self:
                self.hand_out()  # what came before still is for it
                self.drop_member(link.rooms[i].place)
                link.rooms_len -= 1
                link.rooms[i] = link.rooms[link.rooms_len]
                Py_DECREF(self)
                return True
        return False

    def publish(self, body: bytes) -> None:
        """Hand a transient message to every member."""
        cdef frame_t frame
        frame.body = <const uint8_t *> PyBytes_AS_STRING(body)
        frame.body_len = <uint32_t> len(body)
        if len(body) > FRAME_MAX - 255:
            raise EncodeError(f"body: expected at most {FRAME_MAX - 255} bytes, got {len(body)}")
        self.add(&frame, NULL)
        self.hand_out()

    cdef int drop_member(self, uint32_t place) except -1:
        cdef Link moved
        cdef uint16_t i
        self.members_len -= 1
        if place != self.members_len:
            self.members[place] = self.members[self.members_len]
            moved = <Link> self.members[place]
            for i in range(moved.rooms_len):
                if moved.rooms[i].room == <void *> self:
                    moved.rooms[i].place = place
        if self.members_len == 0:
            self.on_empty()
        return 0

    cdef int add(self, const frame_t *frame, chunk_t *whole) except -1:
        cdef size_t route_len = len(self.route), size = HEADER + route_len + frame.body_len
        cdef chunk_t *chunk
        cdef uint8_t *p
        self.hub.relayed += 1
        if whole != NULL and size >= BIG_FRAME:  # route and body lie where they must: only the header changes
            self.hand_out()
            whole.refs += 1
            whole.sealed = 1
            put_header(whole.data, T_MSG, F_ROOM, <uint8_t> route_len, <uint32_t> (size - HEADER), 0)
            self.open = whole
            self.open_count = 1
            self.hand_out()
            return 0
        if self.open != NULL and self.open.len + size > OPEN_MOST:
            self.hand_out()
        if self.open == NULL:
            self.open = chunk_new(max(size, <size_t> SMALL_CHUNK))
            if self.open == NULL:
                raise MemoryError
            self.hub.open_rooms.append(self)
        elif self.open.len + size > self.open.cap:
            chunk = <chunk_t *> realloc(self.open, sizeof(chunk_t) + max(self.open.len + size, self.open.cap * 4))
            if chunk == NULL:
                raise MemoryError
            chunk.cap = max(chunk.len + size, chunk.cap * 4)
            self.open = chunk
        p = self.open.data + self.open.len
        put_header(p, T_MSG, F_ROOM, <uint8_t> route_len, <uint32_t> (size - HEADER), 0)
        memcpy(p + HEADER, PyBytes_AS_STRING(self.route), route_len)
        memcpy(p + HEADER + route_len, frame.body, frame.body_len)
        self.open.len += size
        self.open_count += 1
        return 0

    cdef int hand_out(self) except -1:
        """Every member gets this batch, but for those that already have more waiting than the window allows."""
        cdef chunk_t *chunk = self.open
        cdef uint32_t i
        cdef Link link
        cdef output_t *out
        if chunk == NULL:
            return 0
        self.open = NULL
        chunk.sealed = 1
        try:
            for i in range(self.members_len):
                link = <Link> self.members[i]
                out = link.io.output
                if out == NULL:
                    out = link.io.output = output_new()
                elif out.bytes + chunk.len > self.hub.window and out.bytes:
                    self.hub.dropped += self.open_count
                    continue
                if out == NULL or output_push(out, chunk, 0, chunk.len) < 0:
                    raise MemoryError
                chunk.refs += 1
                self.hub.frames_out += self.open_count
                self.hub.mark(link)
        finally:
            self.open_count = 0
            chunk_drop(chunk)
        return 0
