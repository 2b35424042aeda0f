"""Streams: bytes on a carrier, from its first to its end.

A stream rides on a descriptor of its own or on a carrier that is given to it, takes what comes as it comes, and gathers
what is to be sent until the end of the hub's turn. What the bytes mean, its subclass knows.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.errno cimport EAGAIN

from ._hub cimport os_error
from ._output cimport chunk_drop, output_copy, output_free
from ._wheel cimport NO_TIMER

cdef enum:
    LINGER_MS = 3000            # how long a closed stream waits for the other side to close


@cython.no_gc_clear  # its end needs its hub
cdef class Stream:
    """One byte stream of a hub. A compiled subclass says what is done with the bytes, by `aim`, `received` and
    `let_go`; its owner what follows, by `on_taken`, `on_deadline` and `on_end`. All are called on the loop's thread,
    and what they raise ends the stream.

    hub: the loop's.
    """

    def __cinit__(self, Hub hub not None, *args, **kwargs):
        self.hub = hub
        self.io.fd = -1
        self.timer = NO_TIMER
        self.state = UNBOUND

    def __dealloc__(self):
        if self.hub is None:  # it never came to be
            return
        if self.timer != NO_TIMER and self.hub.wheel is not None:
            self.hub.wheel.cancel_c(self.timer)
        if self.state != UNBOUND and not self.flags & SPOKEN:  # its carrier forgot it
            self.hub.links -= 1
        self.tail_done()
        if self.io.output != NULL:
            output_free(self.io.output)

    # What the owner is told. The defaults do the least that is right.

    def on_taken(self) -> None:
        """The other side has acknowledged more: told once a turn, however many acknowledgements came."""

    def on_deadline(self) -> None:
        """The time given by `expect` is over; told once."""
        self.abort()

    def on_end(self, error: Exception | None) -> None:
        """The stream is over: closed by either side (None), or broken. Told exactly once to who had a carrier."""

    # Its carrier.

    def attach(self, sock) -> None:
        """Take over a connected stream socket: the descriptor is its own now. Raises OSError, and closes it."""
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
        """The stream's next bytes, any contiguous buffer. Not from within a callback of this very stream."""
        cdef const uint8_t[::1] view = data
        if self.flags & BUSY:
            raise RuntimeError("feed: expected the bytes that came before to be taken in")
        if view.shape[0]:
            self.arrived(&view[0], view.shape[0])

    def filled(self, n: int) -> None:
        """The stream's next n bytes are in `hub.buffer`. Not from within a callback of any stream."""
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
        """Bytes may come and go."""
        return self.state in (READING, HELD)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self.io.output.bytes if self.io.output != NULL else 0

    def fileno(self) -> int:
        """The descriptor, or -1."""
        return self.io.fd

    def hold(self) -> None:
        """Look at nothing more until `proceed`; what comes meanwhile waits."""
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
        and a PING that promises less moves it forward. On a stream that is over it does nothing."""
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
        self.let_go()
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
        self.let_go()
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
        into[0] = self.hub.input
        return INPUT

    cdef int received(self, const uint8_t *p, size_t n) except -1:
        return 0

    cdef void let_go(self) noexcept:
        pass

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

    # What goes.

    cdef int sent_out(self) except -1:
        """After the flush, which has let go of what went: how much that was, what is stuck, what broke."""
        cdef int sent = self.io.sent
        cdef output_t *out = self.io.output
        cdef bytes data
        self.io.sent = 0
        if self.state == ENDED:
            return 0
        if self.carrier is not None and out != NULL and not self.flags & BLOCKED:
            data = PyBytes_FromStringAndSize(NULL, out.bytes)  # no container, whose making may run the collector
            output_copy(out, <uint8_t *> PyBytes_AS_STRING(data))
            output_free(out)
            self.io.output = NULL
            self.hub.bytes_out += len(data)
            self.carrier.write(data)
        elif sent > 0:
            self.hub.bytes_out += sent
            if self.flags & MUTED:  # its pings are not read, but it takes what it is sent
                self.renew()
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
