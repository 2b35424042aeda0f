# The hub's C interface: what a loop's links share. Only the hub touches sockets: a link comes to it with bytes to send,
# and is handed the bytes that came.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strerror

cdef class Hub

from ._queue cimport queue_t
from ._stream cimport Stream
from ._wheel cimport TimerWheel


cdef inline object os_error(int code):
    return OSError(code, strerror(code).decode())


cdef enum:
    READY_MOST = 256

cdef extern from "poller.h":
    ctypedef struct ready_t "imcore_ready":
        int fd
        int readable
        int writable
        int broken


cdef class Gatherer:
    cdef int hand_out(self) except -1


cdef class Hub:
    cdef object loop
    cdef TimerWheel wheel
    cdef readonly uint32_t tick_ms
    cdef public size_t window           # bytes queued for a link beyond which its oldest room messages are dropped
    cdef readonly uint64_t frames_in, frames_out, bytes_in, bytes_out, relayed, dropped, links
    cdef int poller                     # epoll descriptor, -1 elsewhere than on Linux
    cdef bytearray memory
    cdef uint8_t *input                 # one receive buffer for all links, in `memory`
    cdef object input_view
    cdef void **slots                   # by descriptor: a Stream (owned), or NULL
    cdef size_t slots_len
    cdef set carried                    # links on other carriers
    cdef dict listeners                 # descriptor -> (socket, factory)
    cdef ready_t ready[READY_MOST]      # what the poller said last; a turn may end before it has come to all of it
    cdef int ready_at, ready_len
    cdef queue_t dirty                  # those with output, in the order in which they got it
    cdef queue_t urgent                 # those of them that owe a heartbeat's answer
    cdef list news                      # links for `on_taken`
    cdef list open_rooms                # rooms whose messages of this batch are not handed out yet
    cdef bint in_turn, flush_scheduled, closed
    cdef object fatal                   # what a callback raised to stop the program, until the turn's end
    cdef object timer                   # the loop's handle of the next tick
    cdef uint64_t next_tick             # when it fires, in ticks
    cdef bint waking                    # the next tick makes up for a sleep
    cdef readonly list on_wake          # called when this process has slept, before any deadline
    cdef uint64_t origin                # milliseconds
    cdef object on_ready, on_flush, on_tick  # bound once, not at every turn

    cdef uint64_t ticks(self) noexcept
    cdef int schedule_tick(self) except -1

    # A link takes, changes and gives back its descriptor, or its place among those on other carriers.
    cdef int bind(self, Stream link, int fd) except -1
    cdef int watch(self, Stream link) noexcept
    cdef int shut(self, Stream link) noexcept
    cdef bint release(self, Stream link, bint shut) noexcept

    cdef int turn(self, uint64_t until_us) except -1
    cdef int meet(self, const ready_t *ready) except -1
    cdef int accept(self, int listener) except -1
    cdef int read(self, Stream link) except -1
    cdef int enlist(self, Stream link) except -1    # it has something to send; runs no Python code
    cdef int hurry(self, Stream link) except -1     # it does, and goes before the others
    cdef int wake(self) except -1                   # see to it that a flush comes
    cdef int mark(self, Stream link) except -1      # enlist and wake
    cdef int drain(self, Stream link, size_t n) noexcept
    cdef int relieve(self, Stream link) except -1
    cdef int spill(self) except -1
    cdef int finish_turn(self) except -1
    cdef int flush(self, queue_t *queue, uint32_t flag, uint32_t most) except -1
    cdef void blame(self, Stream link, object error) noexcept
    cdef void report(self, Stream link, object error) noexcept
