# The link's C interface: one byte stream of frames, either side. What its loop's links share is the hub's, what it
# hears with others the rooms'.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from ._codec cimport frame_t
from ._output cimport chunk_t, output_t

cdef enum action_t:  # what is done with a frame; 0 = it may not come
    DO_HAND = 1
    DO_ANSWER = 2
    DO_IGNORE = 3
    DO_TAKE = 4
    DO_RELAY = 5

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


cdef struct member_t:   # a link's place in a room
    void *room          # a Room, owned
    uint32_t place


cdef class Link

from ._hub cimport Hub


cdef class Link:
    cdef readonly Hub hub
    cdef bytes moves
    cdef object carrier                 # None: the link has a descriptor of its own
    cdef chunk_t *tail                  # an incomplete frame, or what came while held
    cdef io_t io
    cdef member_t *rooms
    cdef uint64_t start                 # stream offset of the next frame
    cdef public uint64_t head           # the newest number in the user's inbox, told in PONG or ACK
    cdef public uint64_t sent           # the newest number that was sent down
    cdef public uint64_t taken          # the newest number that the other side has acknowledged
    cdef uint32_t limit
    cdef uint32_t timer
    cdef uint32_t patience              # ticks
    cdef uint32_t most_patience
    cdef uint16_t rooms_len
    cdef uint16_t flags
    cdef uint8_t state
    cdef public bint pong_head          # PONG carries `head`
    cdef public bint ack_head           # `confirm` does

    cpdef adopt(self, int fd)
    cdef int arm(self, double seconds, bint renew) except -1

    # What comes. `aim`: where the carrier's next bytes may go, and how many. `arrived`: they are there.
    cdef size_t aim(self, uint8_t **into) except 0
    cdef int arrived(self, const uint8_t *p, size_t n) except -1
    cdef void renew(self) noexcept
    cdef void take_in(self, const uint8_t *p, size_t n) noexcept
    cdef int received(self, const uint8_t *p, size_t n) except -1
    cdef int consume(self, const uint8_t *p, size_t n) except -1
    cdef int grow_tail(self, size_t want) except -1
    cdef int keep(self, const uint8_t *p, size_t n) except -1
    cdef int dispatch(self, const frame_t *frame, chunk_t *whole) except -1
    cdef int answer(self, const frame_t *frame) except -1
    cdef int take(self, uint64_t id) except -1
    cdef int relay(self, const frame_t *frame, chunk_t *whole) except -1
    cdef int hand(self, const frame_t *frame) except -1
    cdef int fault(self, object error) except -1

    # What goes.
    cdef uint8_t *reserve(self, size_t n) except NULL
    cdef int put_number(self, uint8_t type, uint64_t id, bint with_head) except -1
    cdef int sent_out(self) except -1
    cdef int regulate(self) except -1
    cdef int mute(self, bint on) except -1

    # Its end. Nothing that the owner or the carrier raises comes out of these.
    cdef void speak_end(self, object error) noexcept
    cdef void finish(self, object error) noexcept
    cdef void leave_all(self) noexcept
    cdef void tail_done(self) noexcept
