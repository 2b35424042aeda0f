# The link's C interface: one byte stream of frames (Link), the loop's turn that reads and sends for all of them (Hub), and
# those who hear the same (Room).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t

from ._codec cimport frame_t
from ._output cimport chunk_t, output_t
from ._wheel cimport TimerWheel

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
    MUTED = 2       # the kernel is not asked for its bytes
    BLOCKED = 4     # the carrier takes no more until it says so
    TAKEN = 8       # has news for `on_taken` this turn
    RENEWS = 16     # every byte that comes moves the deadline
    SPOKEN = 32     # `on_end` was called


cdef struct io_t:       # what the flush needs, reachable without the interpreter's lock
    int fd              # -1: none, or a carrier's
    int error           # errno of the last send, 0 = all went out, EAGAIN = blocked
    output_t *output


cdef struct member_t:   # a link's place in a room
    void *room          # a Room, owned
    uint32_t place


cdef class Hub:
    cdef object loop
    cdef readonly TimerWheel wheel
    cdef readonly uint32_t tick_ms
    cdef public size_t window           # bytes queued for a link from which room messages to it are dropped
    cdef readonly uint64_t frames_in, frames_out, bytes_in, bytes_out, relayed, dropped, links
    cdef int poller                     # epoll descriptor, -1 elsewhere than on Linux
    cdef uint8_t *input                 # one receive buffer for all links
    cdef object input_view
    cdef void **slots                   # by descriptor: a Link (owned), or NULL
    cdef size_t slots_len
    cdef dict listeners                 # descriptor -> (socket, factory)
    cdef void **dirty                   # links (owned) with output, in the order in which they got it
    cdef io_t **dirty_io                # the same ones' io
    cdef uint32_t dirty_len, dirty_cap
    cdef list news                      # links for `on_taken`
    cdef list open_rooms                # rooms whose messages of this batch are not handed out yet
    cdef bint in_turn, flush_scheduled, closed
    cdef object timer                   # the loop's handle of the next tick
    cdef uint64_t next_tick             # when it fires, in ticks
    cdef uint64_t origin                # milliseconds
    cdef object on_ready, on_flush, on_tick  # bound once, not at every turn

    cdef uint64_t ticks(self) noexcept
    cdef int mark(self, Link link) except -1
    cdef int finish_turn(self) except -1
    cdef int turn(self, const void *ready, int n) except -1
    cdef int flush(self) except -1
    cdef int schedule_tick(self) except -1
    cdef int accept(self, int listener) except -1
    cdef int spill(self) except -1
    cdef int hold_slot(self, int fd, Link link) except -1
    cdef object blame(self, Link link, object error)


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
    cdef uint8_t state
    cdef uint8_t flags
    cdef public bint pong_head          # PONG carries `head`
    cdef public bint ack_head           # `confirm` does

    cpdef adopt(self, int fd)
    cdef int readable(self) except -1
    cdef int received(self, const uint8_t *p, size_t n) except -1
    cdef int consume(self, const uint8_t *p, size_t n) except -1
    cdef int grow_tail(self, size_t want) except -1
    cdef int keep(self, const uint8_t *p, size_t n) except -1
    cdef int tail_done(self) except -1
    cdef int dispatch(self, const frame_t *frame, chunk_t *whole) except -1
    cdef int relay(self, const frame_t *frame, chunk_t *whole) except -1
    cdef uint8_t *reserve(self, size_t n) except NULL
    cdef int put_number(self, uint8_t type, uint64_t id, bint with_head) except -1
    cdef int sent_out(self) except -1
    cdef int watch(self) except -1
    cdef int mute(self, bint on) except -1
    cdef int speak_end(self, object error) except -1
    cdef int finish(self, object error) except -1
    cdef int leave_all(self) except -1


cdef class Room:
    cdef readonly str name
    cdef bytes route
    cdef Hub hub
    cdef void **members                 # links, borrowed: each leaves when it ends
    cdef uint32_t members_len, members_cap
    cdef chunk_t *open                  # this batch's messages, encoded once
    cdef uint32_t open_count

    cdef int add(self, const frame_t *frame, chunk_t *whole) except -1
    cdef int hand_out(self) except -1
    cdef int drop_member(self, uint32_t place) except -1
