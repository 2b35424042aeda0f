# The stream's C interface: bytes on a carrier, and its life. What its loop's streams share is the hub's, what the bytes
# mean a subclass's.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from ._output cimport chunk_t, output_t

cdef enum state_t:
    UNBOUND         # no carrier yet
    READING         # frames are taken as they come
    HELD            # what comes is kept, not looked at
    LINGERING       # all is said; the last bytes go out, what comes is thrown away
    ENDED

cdef enum:
    DIRTY = 1       # waits for the flush of this turn
    MUTED = 2       # the carrier is not asked for its bytes
    BLOCKED = 4     # the carrier takes no more until it says so
    TAKEN = 8       # has news for `on_taken` this turn
    RENEWS = 16     # every byte that comes moves the deadline; `timer` is armed
    SPOKEN = 32     # `on_end` was called
    BUSY = 64       # is taking in bytes: more would overtake them
    SHUT = 128      # the other side was told that no more comes
    URGENT = 256    # waits for the flush ahead of the others

cdef enum:
    INPUT = 16 * 1024           # the receive buffer: what one link gets of a turn


cdef struct io_t:       # what the flush needs, reachable without the interpreter's lock
    int fd              # -1: none, or a carrier's
    int sent            # by the last flush: bytes, or -errno
    output_t *output


cdef class Stream

from ._hub cimport Hub


cdef class Stream:
    cdef readonly Hub hub
    cdef object carrier                 # None: the stream has a descriptor of its own
    cdef chunk_t *tail                  # what came and waits: for its rest, or for `proceed`
    cdef io_t io
    cdef uint32_t timer
    cdef uint32_t patience              # ticks
    cdef uint32_t most_patience
    cdef uint16_t flags
    cdef uint8_t state

    # A subclass's own. `aim`: where the carrier's next bytes may go, and how many. `received`: these came, behind what
    # is in `tail`, which keeps what is not used up; 0 bytes: they are in it already. `let_go`: it is over, so leave all
    # that it is part of; a subclass's `__dealloc__` calls it too.
    cdef size_t aim(self, uint8_t **into) except 0
    cdef int received(self, const uint8_t *p, size_t n) except -1
    cdef void let_go(self) noexcept

    cpdef adopt(self, int fd)
    cdef int arm(self, double seconds, bint renew) except -1

    # What comes. `arrived`: the carrier's bytes, where `aim` said or anywhere.
    cdef int arrived(self, const uint8_t *p, size_t n) except -1
    cdef void renew(self) noexcept
    cdef void take_in(self, const uint8_t *p, size_t n) noexcept

    # What goes.
    cdef int sent_out(self) except -1
    cdef int regulate(self) except -1
    cdef int mute(self, bint on) except -1

    # Its end. Nothing that the owner or the carrier raises comes out of these.
    cdef void speak_end(self, object error) noexcept
    cdef void finish(self, object error) noexcept
    cdef void tail_done(self) noexcept
