# The link's C interface: a stream of frames, either side. What it hears with others is the rooms'.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from ._codec cimport frame_t
from ._output cimport chunk_t
from ._stream cimport Stream

cdef enum action_t:  # what is done with a frame; 0 = it may not come
    DO_HAND = 1
    DO_ANSWER = 2
    DO_IGNORE = 3
    DO_TAKE = 4
    DO_RELAY = 5


cdef struct member_t:   # a link's place in a room
    void *room          # a Room, owned
    uint32_t place


cdef class Link(Stream):
    cdef bytes moves
    cdef member_t *rooms
    cdef uint64_t start                 # stream offset of the next frame
    cdef public uint64_t head           # the newest number in the user's inbox, told in PONG or ACK
    cdef public uint64_t sent           # the newest number that was sent down
    cdef public uint64_t taken          # the newest number that the other side has acknowledged
    cdef uint32_t limit
    cdef uint16_t rooms_len
    cdef public bint pong_head          # PONG carries `head`
    cdef public bint ack_head           # `confirm` does

    # What comes.
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
