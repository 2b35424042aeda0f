"""The hub: the turn of the loop that reads, relays and sends for all its links.

This is the only module that touches a socket. A turn takes what the kernel has for each ready link into one shared
buffer, has the link hand its frames on where they lie, gathers what they cause, and sends it with one call for each
link. A turn takes a few milliseconds at the most: what is left to read or to send waits for the next, and heartbeats
are answered before it. It never looks at a byte.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, ECONNABORTED, EEXIST, EINTR, errno

from ._output cimport output_sent, output_t
from ._queue cimport queue_push
from ._stream cimport BLOCKED, DIRTY, HELD, INPUT, LINGERING, MUTED, READING, RENEWS, TAKEN, UNBOUND, URGENT, io_t
from ._wheel cimport NO_TIMER

cdef extern from "poller.h" nogil:
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
    int imcore_send(int fd, const output_t *out)
    ssize_t imcore_recv(int fd, void *p, size_t n)
    int imcore_broken(int fd)
    uint64_t imcore_clock_ms()
    uint64_t imcore_clock_us()
    int shutdown(int fd, int how)
    int close(int fd)

cdef enum:
    ACCEPT_MOST = 64
    FLUSH_MOST = 64             # links that are sent for between two looks at the clock
    READ_US = 1000              # how long a turn reads and how long it sends: between the two, and before anything
    SEND_US = 1000              # else, the loop comes to what is new
    LATE_MS = 1000              # so late is no timer but of a process that slept
    PAUSE_MS = 500              # how long a listener rests that the kernel has nothing left for


cdef void timer_expired(void *hub, uint32_t timer, void *owner) noexcept:
    cdef Stream link = <Stream> owner
    link.timer = NO_TIMER
    link.flags &= ~RENEWS
    try:
        if link.state == LINGERING:
            link.finish(None)
        else:
            link.on_deadline()
    except BaseException as error:
        (<Hub> hub).blame(link, error)


cdef class Gatherer:
    """Who gathers what comes for many links, until the hub has it handed out."""

    cdef int hand_out(self) except -1:
        return 0


cdef class Hub:
    """All links of one event loop, and its one receive buffer, poller and timer wheel.

    loop: the running asyncio or uvloop loop. tick_ms: the wheel's resolution, milliseconds. window: bytes that may wait
    for a link before the oldest room messages among them are dropped and its own requests are no longer read. native:
    False makes links ride on asyncio's transports only, as they do where there is no epoll. Everything is called on the
    loop's thread.

    What a link's owner raises ends that link and goes to the loop's exception handler; SystemExit and KeyboardInterrupt
    go on to the loop when the turn is done.
    """

    def __cinit__(self, loop, *, tick_ms: int = 100, window: int = 256 * 1024, native: bool = True):
        self.poller = -1
        if not 1 <= tick_ms <= 60_000:
            raise ValueError(f"tick_ms: expected 1 to 60000 milliseconds, got {tick_ms}")
        self.loop = loop
        self.tick_ms = tick_ms
        self.window = window
        self.wheel = TimerWheel()
        self.origin = imcore_clock_ms()
        self.listeners = {}
        self.carried = set()
        self.news = []
        self.open_rooms = []
        self.on_wake = []
        self.on_ready, self.on_flush, self.on_tick = self._ready, self._flush, self._tick
        self.memory = bytearray(INPUT)
        self.input = <uint8_t *> PyByteArray_AS_STRING(self.memory)
        self.input_view = memoryview(self.memory)  # as long as anyone has it, the memory stays where it is
        if native:
            self.poller = poller_open()
        if self.poller >= 0:
            loop.add_reader(self.poller, self.on_ready)

    def __dealloc__(self):
        if self.input != NULL and self.poller >= 0:
            close(self.poller)
        PyMem_Free(self.slots)
        PyMem_Free(self.dirty.links)
        PyMem_Free(self.urgent.links)

    @property
    def native(self) -> bool:
        """True: links hold their descriptors themselves (`Stream.attach`, `listen`)."""
        return self.poller >= 0

    @property
    def behind(self) -> int:
        """How many links have bytes that a later turn sends; none of those that the kernel takes no more for."""
        return self.dirty.end - self.dirty.first

    @property
    def buffer(self) -> memoryview:
        """The receive buffer, for a carrier that fills it and calls `Stream.filled` at once."""
        return self.input_view

    def listen(self, sock, factory) -> None:
        """Accept on a bound, listening stream socket; `factory()` makes the Stream of each connection."""
        if self.poller < 0:
            raise RuntimeError("listen: expected an open hub with a poller; without, use the loop's servers, `carry`")
        sock.setblocking(False)
        if poller_set(self.poller, IMCORE_ADD, sock.fileno(), True, False) < 0:
            raise os_error(errno)
        self.listeners[sock.fileno()] = (sock, factory)

    def stop_listening(self, sock) -> None:
        """Accept no more on this socket, and close it; links live on."""
        if self.listeners.pop(sock.fileno(), None) is not None:
            poller_drop(self.poller, sock.fileno())
        sock.close()

    def close(self) -> None:
        """End every link at once, and let go of the loop. Calling it again does nothing."""
        cdef size_t fd = 0
        cdef Stream link
        if self.closed:
            return
        self.closed = True
        for sock, _ in list(self.listeners.values()):
            self.stop_listening(sock)
        while fd < self.slots_len:
            if self.slots[fd] != NULL:
                link = <Stream> self.slots[fd]
                link.finish(None)
            fd += 1
        for link in list(self.carried):
            link.finish(None)
        if self.timer is not None:
            self.timer.cancel()
        if self.poller >= 0:
            self.loop.remove_reader(self.poller)
            close(self.poller)
            self.poller = -1
        if not self.in_turn:
            self.finish_turn()  # lets go of the links that waited for it

    # Time.

    cdef uint64_t ticks(self) noexcept:
        return (imcore_clock_ms() - self.origin) // self.tick_ms

    def _tick(self) -> None:
        cdef uint64_t now = self.ticks()
        self.timer = None
        if not self.waking and now > self.next_tick + LATE_MS // self.tick_ms:
            self.waking = True  # this process slept: what has come meanwhile is read before anybody is called silent
            self.next_tick = now + 1
            self.timer = self.loop.call_later(self.tick_ms / 1000.0, self.on_tick)
            for woke in list(self.on_wake):
                woke()
            return
        self.waking = False
        self.wheel.advance_c(now, timer_expired, <void *> self)
        self.schedule_tick()

    cdef int schedule_tick(self) except -1:
        """One timer of the loop for all deadlines; moved forward when an earlier one comes."""
        cdef uint64_t due = self.wheel.next_c(), now = self.ticks()
        if self.closed or due == <uint64_t> -1 or (self.timer is not None and self.next_tick <= due):
            return 0
        if self.timer is not None:
            self.timer.cancel()
        self.next_tick = max(due, now + 1)
        self.timer = self.loop.call_later((self.next_tick - now) * self.tick_ms / 1000.0, self.on_tick)
        return 0

    # Descriptors.

    cdef int bind(self, Stream link, int fd) except -1:
        cdef size_t i, want
        cdef void **grown
        if fd < 0:
            raise ValueError(f"expected a descriptor, got {fd}")
        if <size_t> fd >= self.slots_len:
            want = max(<size_t> fd + 1, self.slots_len + self.slots_len // 4, <size_t> 64)
            grown = <void **> PyMem_Realloc(self.slots, want * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            for i in range(self.slots_len, want):
                grown[i] = NULL
            self.slots = grown
            self.slots_len = want
        if self.slots[fd] != NULL:
            raise os_error(EEXIST)
        if poller_set(self.poller, IMCORE_ADD, fd, True, False) < 0:
            raise os_error(errno)
        imcore_nodelay(fd)
        Py_INCREF(link)
        self.slots[fd] = <void *> link
        link.io.fd = fd
        return 0

    cdef int watch(self, Stream link) noexcept:
        """Tell the poller what this link waits for."""
        return poller_set(self.poller, IMCORE_CHANGE, link.io.fd, not link.flags & MUTED, (link.flags & BLOCKED) != 0)

    cdef int shut(self, Stream link) noexcept:
        return shutdown(link.io.fd, SHUT_WR)

    cdef bint release(self, Stream link, bint shut) noexcept:
        """The link has no descriptor from now on; True: the reference that its slot had is the caller's. shut: close
        the descriptor too."""
        cdef int fd = link.io.fd
        if fd < 0:
            return False
        link.io.fd = -1
        self.slots[fd] = NULL
        poller_drop(self.poller, fd)  # closing does not do it where a forked child has the descriptor too
        if shut:
            close(fd)
        return True

    # The turn.

    cdef void blame(self, Stream link, object error) noexcept:
        """An owner's callback raised: that link ends, the others go on."""
        self.report(link, error)
        link.finish(error if isinstance(error, Exception) else None)

    cdef void report(self, Stream link, object error) noexcept:
        try:
            if not isinstance(error, (KeyboardInterrupt, SystemExit)):
                self.loop.call_exception_handler(
                    {"message": "imcore: a link's owner raised", "exception": error, "link": link})
                return
        except BaseException as worse:
            error = worse
        self.fatal = error
        try:
            self.wake()
        except BaseException:  # the loop is closed: nobody is left to stop
            pass

    def _ready(self) -> None:
        """A turn: read, hand on, relay, send."""
        if self.ready_at >= self.ready_len:  # less than none were ready: the poller could not say
            self.ready_at = 0
            self.ready_len = poller_take(self.poller, self.ready, READY_MOST)
        self.in_turn = True
        try:
            self.turn(imcore_clock_us() + READ_US)
        finally:
            self.finish_turn()

    def _flush(self) -> None:
        self.flush_scheduled = False
        self.finish_turn()

    cdef int turn(self, uint64_t until_us) except -1:
        """Those that are ready. Whom this turn does not come to, the next one does first; what the poller said of them
        may not hold any more by then, and does no harm."""
        cdef ready_t ready
        while self.ready_at < self.ready_len:
            ready = self.ready[self.ready_at]
            self.ready_at += 1
            self.meet(&ready)
            if imcore_clock_us() >= until_us:
                break
        return 0

    cdef int meet(self, const ready_t *ready) except -1:
        """What one descriptor is ready for."""
        cdef int fd = ready.fd
        cdef Stream link
        if <size_t> fd >= self.slots_len or self.slots[fd] == NULL:
            return self.accept(fd)
        link = <Stream> self.slots[fd]
        try:
            if ready.writable and link.flags & BLOCKED:
                link.flags &= ~BLOCKED
                self.watch(link)
                self.enlist(link)
            if ready.broken and (link.state == HELD or link.flags & MUTED):
                if imcore_broken(fd):  # nobody is left to read for, and the kernel would say so at every turn
                    link.finish(None)
            elif ready.readable or ready.broken:
                self.read(link)
        except BaseException as error:
            self.blame(link, error)
        return 0

    cdef int read(self, Stream link) except -1:
        cdef uint8_t *into = NULL
        cdef size_t most
        cdef ssize_t n
        if link.state == HELD:
            return link.mute(True)
        most = link.aim(&into)
        n = imcore_recv(link.io.fd, into, most)
        if n > 0:
            link.arrived(into, n)
        elif n == 0:
            link.finish(None)
        elif n != -EAGAIN and n != -EINTR:
            link.finish(os_error(-n))
        return 0

    cdef int accept(self, int listener) except -1:
        cdef int fd
        cdef object entry = self.listeners.get(listener)
        cdef Stream link
        for _ in range(ACCEPT_MOST):
            if entry is None or self.listeners.get(listener) is not entry:  # closed earlier in this turn
                return 0
            fd = imcore_accept(listener)
            if fd == -ECONNABORTED or fd == -EINTR:
                continue
            if fd == -EAGAIN:
                return 0
            if fd < 0:  # out of descriptors or of memory, most likely: asking again at once would only spin
                poller_drop(self.poller, listener)
                self.loop.call_later(PAUSE_MS / 1000.0, self._listen_again, listener)
                return 0
            try:
                link = entry[1]()
                if link is None:
                    raise TypeError("the factory of a listener: expected a Stream, got None")
            except BaseException as error:
                close(fd)
                self.report(None, error)
                continue
            try:
                link.adopt(fd)
            except BaseException as error:
                if link.io.fd != fd:
                    close(fd)
                self.report(link, error)
        return 0

    def _listen_again(self, listener: int) -> None:
        if listener in self.listeners:
            poller_set(self.poller, IMCORE_ADD, listener, True, False)

    cdef int enlist(self, Stream link) except -1:
        if link.flags & (DIRTY | BLOCKED) or link.state == UNBOUND:
            return 0
        queue_push(&self.dirty, link)
        link.flags |= DIRTY
        return 0

    cdef int hurry(self, Stream link) except -1:
        if link.flags & (URGENT | BLOCKED) or link.state == UNBOUND:
            return 0
        queue_push(&self.urgent, link)
        link.flags |= URGENT
        return self.wake()

    cdef int wake(self) except -1:
        if not self.in_turn and not self.flush_scheduled:
            self.loop.call_soon(self.on_flush)
            self.flush_scheduled = True
        return 0

    cdef int mark(self, Stream link) except -1:
        self.enlist(link)
        return self.wake()

    cdef int drain(self, Stream link, size_t n) noexcept:
        """Before a link that n more bytes would take over its window is judged slow, the kernel takes what it can."""
        cdef int sent
        cdef output_t *out = link.io.output
        while link.io.fd >= 0 and not link.flags & BLOCKED and out.bytes + n > self.window and out.bytes:
            sent = imcore_send(link.io.fd, link.io.output)
            if sent == -EAGAIN:
                link.flags |= BLOCKED
                self.watch(link)
            if sent <= 0:  # what is broken, the flush will meet
                return 0
            self.bytes_out += sent
            output_sent(link.io.output, sent)
        return 0

    cdef int relieve(self, Stream link) except -1:
        """The same for a link on another carrier: the carrier takes all, or says that it is blocked."""
        try:
            link.sent_out()
        except BaseException as error:
            self.blame(link, error)
        return 0

    cdef int spill(self) except -1:
        """Hand out what the rooms gathered since the last link's bytes."""
        cdef Gatherer room
        cdef Py_ssize_t i = 0
        while i < len(self.open_rooms):  # a carrier's code may run, and add to it
            room = self.open_rooms[i]
            room.hand_out()
            i += 1
        if i:
            self.open_rooms.clear()
        return 0

    cdef int finish_turn(self) except -1:
        cdef Stream link
        cdef list news
        cdef uint64_t until_us = imcore_clock_us() + SEND_US
        self.in_turn = True
        try:
            self.spill()
            while self.news or self.urgent.end or self.dirty.end:
                news, self.news = self.news, []
                for link in news:
                    link.flags &= ~TAKEN
                    if link.state in (READING, HELD):
                        try:
                            link.on_taken()
                        except BaseException as error:
                            self.blame(link, error)
                self.spill()
                self.flush(&self.urgent, URGENT, <uint32_t> -1)
                self.flush(&self.dirty, DIRTY, FLUSH_MOST)
                if not self.closed and imcore_clock_us() >= until_us:
                    break
        finally:
            self.in_turn = False
        if self.fatal is not None:
            fatal, self.fatal = self.fatal, None
            raise fatal
        if self.news or self.urgent.end or self.dirty.end:
            self.wake()
        return 0

    cdef int flush(self, queue_t *queue, uint32_t flag, uint32_t most) except -1:
        """Send for those that have waited longest: the calls themselves without the interpreter's lock."""
        cdef void *links[FLUSH_MOST]
        cdef io_t *ios[FLUSH_MOST]
        cdef io_t *io
        cdef Stream link
        cdef uint32_t i, n
        most = min(most, queue.end - queue.first)
        while most:
            n = min(most, <uint32_t> FLUSH_MOST)
            most -= n
            for i in range(n):
                links[i] = queue.links[queue.first + i]
                ios[i] = &(<Stream> links[i]).io
            queue.first += n
            if queue.first == queue.end:
                queue.first = queue.end = 0
            with nogil:
                for i in range(n):
                    io = ios[i]
                    if io.fd >= 0 and io.output != NULL and io.output.bytes:
                        io.sent = imcore_send(io.fd, io.output)
            for i in range(n):  # before anybody is told anything: who speaks then must not find waiting what has gone
                if ios[i].sent > 0:
                    output_sent(ios[i].output, ios[i].sent)
            for i in range(n):
                link = <Stream> links[i]
                link.flags &= ~flag
                try:
                    link.sent_out()
                except BaseException as error:
                    self.blame(link, error)
                Py_DECREF(link)
        return 0
