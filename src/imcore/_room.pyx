"""Rooms: links that hear the same. A message is encoded once, and every member's output points at it.

What comes in one batch of bytes goes to the members as one piece. Messages are transient: for a member that can't keep
up the oldest that wait are dropped and counted, and nobody else waits.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from ._codec cimport FRAME_MAX, HEADER, put_header
from ._link cimport member_t
from ._output cimport SMALL_CHUNK, chunk_drop, chunk_new, output_new, output_push, output_t, output_thin
from ._stream cimport BLOCKED

from .errors import EncodeError

cdef enum:
    OPEN_MOST = 64 * 1024       # a batch is handed out when it has grown to this
    BIG_FRAME = 16 * 1024       # from here on a relayed frame is not copied but shared
    ROOMS_MOST = 0xFFFF         # of one link
    T_MSG = 5
    F_ROOM = 2


cdef class Room(Gatherer):
    """Links of one hub that hear the same. A message is encoded once for all of them.

    name: at most 255 bytes of UTF-8; raises `EncodeError`.
    """

    def __cinit__(self, Hub hub not None, str name not None):
        self.hub = hub
        self.name = name
        try:
            self.route = name.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"room: expected a name that UTF-8 can hold: {error}") from None
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
        if link.hub is not self.hub:
            raise ValueError("join: expected a link of the room's own hub")
        self.hand_out()  # what came before is not for it; first, as a carrier's code may run
        if not link.open or self.holds(link):
            return False
        if link.rooms_len == ROOMS_MOST:
            raise ValueError(f"join: expected a link that is in fewer than {ROOMS_MOST} rooms")
        if self.members_len == self.members_cap:
            grown = PyMem_Realloc(self.members, (<size_t> self.members_cap * 2 + 1) * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            self.members = <void **> grown
            self.members_cap = self.members_cap * 2 + 1
        grown = PyMem_Realloc(link.rooms, (<size_t> link.rooms_len + 1) * sizeof(member_t))
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
        self.hand_out()  # what came before still is for it; first, as a carrier's code may run
        for i in range(link.rooms_len):
            if link.rooms[i].room == <void *> self:
                self.drop_member(link.rooms[i].place)
                link.rooms_len -= 1
                link.rooms[i] = link.rooms[link.rooms_len]
                Py_DECREF(self)
                self.emptied()
                return True
        return False

    def publish(self, body: bytes) -> None:
        """Hand a transient message to every member. Raises `EncodeError`."""
        cdef frame_t frame
        cdef size_t most = FRAME_MAX - len(self.route)
        if <size_t> len(body) > most:
            raise EncodeError(f"body: expected at most {most} bytes beside the room's name, got {len(body)}")
        frame.body = <const uint8_t *> PyBytes_AS_STRING(body)
        frame.body_len = <uint32_t> len(body)
        self.add(&frame, NULL)
        self.hand_out()

    cdef void drop_member(self, uint32_t place) noexcept:
        cdef Link moved
        cdef uint16_t i
        self.members_len -= 1
        if place != self.members_len:
            self.members[place] = self.members[self.members_len]
            moved = <Link> self.members[place]
            for i in range(moved.rooms_len):
                if moved.rooms[i].room == <void *> self:
                    moved.rooms[i].place = place

    cdef void emptied(self) noexcept:
        if self.members_len == 0:
            try:
                self.on_empty()
            except BaseException as error:
                self.hub.report(None, error)

    cdef int add(self, const frame_t *frame, chunk_t *whole) except -1:
        cdef size_t route_len = len(self.route), size = HEADER + route_len + frame.body_len, cap
        cdef chunk_t *chunk
        cdef uint8_t *p
        self.hub.relayed += 1
        if whole != NULL and size >= BIG_FRAME:  # route and body lie where they must: only the header changes
            self.hand_out()
            whole.refs += 1
            whole.messages = 1
            put_header(whole.data, T_MSG, F_ROOM, <uint8_t> route_len, <uint32_t> (size - HEADER), 0)
            self.open = whole
            self.open_count = 1
            return self.hand_out()
        if self.open != NULL and self.open.len + size > OPEN_MOST:
            self.hand_out()
        if self.open == NULL:
            self.open = chunk_new(max(size, <size_t> SMALL_CHUNK))
            if self.open == NULL:
                raise MemoryError
            self.hub.open_rooms.append(self)
        elif self.open.len + size > self.open.cap:
            cap = max(self.open.len + size, min(self.open.cap * 4, <size_t> OPEN_MOST))
            chunk = <chunk_t *> realloc(self.open, sizeof(chunk_t) + cap)
            if chunk == NULL:
                raise MemoryError
            chunk.cap = cap
            self.open = chunk
        p = self.open.data + self.open.len
        put_header(p, T_MSG, F_ROOM, <uint8_t> route_len, <uint32_t> (size - HEADER), 0)
        memcpy(p + HEADER, PyBytes_AS_STRING(self.route), route_len)
        memcpy(p + HEADER + route_len, frame.body, frame.body_len)
        self.open.len += size
        self.open_count += 1
        return 0

    cdef int said(self, const frame_t *frame, chunk_t *whole) except -1:
        self.add(frame, whole)
        if self.onward is not None:
            self.onward(PyBytes_FromStringAndSize(<const char *> frame.body, frame.body_len))
        return 0

    cdef int hand_out(self) except -1:
        """Every member gets this batch; those that have as much waiting as the window allows lose older ones for it. No
        Python code runs until all have been looked at, so nobody comes or goes meanwhile."""
        cdef list late = []  # first: to make a container may run the collector, and so anybody's code
        cdef chunk_t *chunk = self.open
        cdef uint32_t i, count = self.open_count
        cdef Link link
        if chunk == NULL:
            return 0
        self.open = NULL
        self.open_count = 0
        chunk.messages = count
        try:
            for i in range(self.members_len):
                link = <Link> self.members[i]
                if crowded(link, chunk):
                    if link.carrier is not None and not link.flags & BLOCKED:
                        late.append(link)  # its carrier may take what waits, but that is Python code
                        continue
                    self.hub.drain(link, chunk.len)
                give(link, chunk, count)
            for link in late:
                self.hub.relieve(link)
                if link.open:
                    give(link, chunk, count)
        finally:
            chunk_drop(chunk)
        return self.hub.wake()


cdef inline bint crowded(Link link, const chunk_t *chunk) noexcept:
    cdef const output_t *out = link.io.output
    return out != NULL and out.bytes and out.bytes + chunk.len > link.hub.window


cdef bint thin(Link link, const chunk_t *chunk) noexcept:
    """Drop as many of the rooms' messages that wait for it as the batch needs, the oldest first; its own stay."""
    cdef output_t *out = link.io.output
    cdef uint32_t messages = output_thin(out, min(out.bytes + chunk.len - link.hub.window, out.bytes))
    link.hub.dropped += messages
    link.hub.frames_out -= messages
    return messages != 0


cdef inline int give(Link link, chunk_t *chunk, uint32_t count) except -1:
    """One member's share. Where too much waits, older batches make room; where they can't, this one is dropped."""
    if crowded(link, chunk) and not thin(link, chunk):
        link.hub.dropped += count
        return 0
    if link.io.output == NULL:
        link.io.output = output_new()
    if link.io.output == NULL or output_push(link.io.output, chunk, 0, chunk.len) < 0:
        raise MemoryError
    chunk.refs += 1
    link.hub.frames_out += count
    return link.hub.enlist(link)
