# The timer wheel's C interface. A deadline is a tick; ticks are whatever the caller counts. No clock in here.
#
# Callers at C level are trusted: an id is theirs from `arm_c` until they cancel it or it expires. A wheel that is
# advanced by `advance_c` holds only timers of `arm_c`: nothing else tells one kind of owner from another.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    NO_TIMER = 0xFFFFFFFF   # the id that is never given out

    LEVELS = 30             # of 64 slots, each 4 times as wide as one of the level below: the top one reaches 2**64
    OVERDUE = LEVELS << 6   # behind the slots: the list of what was armed with a deadline that had passed
    DUE = OVERDUE + 1       # and the list of what the running advance has yet to call
    FIRST = 0x80000000      # set in `prev` of the first timer of a slot; the other bits are the slot. An id has 31 bits
    SEGMENT = 4096

cdef struct timer_t:
    uint32_t next           # in its slot, or among the freed; NO_TIMER ends either
    uint32_t prev
    uint64_t deadline
    void *owner

cdef struct segment_t:      # the arena grows by one of these: no timer ever moves, and few lie idle
    timer_t timers[SEGMENT]
    uint32_t generations[SEGMENT]  # the upper half of a timer's Python id: odd while it is armed from Python

ctypedef void (*expired_fn)(void *context, uint32_t timer, void *owner) noexcept


cdef class TimerWheel:
    cdef readonly uint64_t now              # the tick that the wheel stands at
    cdef uint64_t occupied[LEVELS + 1]      # a bit a slot; the last word is for OVERDUE and DUE
    cdef uint32_t heads[DUE + 1]            # the first timer of each slot, or NO_TIMER
    cdef segment_t **segments
    cdef uint32_t unused                    # the first id that was never given out
    cdef uint32_t freed                     # the list of ids to give out again
    cdef uint32_t armed
    cdef uint32_t owned                     # those of `armed` that hold a reference to their owner
    cdef bint advancing
    cdef object callback                    # of the running `advance_into`
    cdef list failures                      # what it raised

    # Arm: `owner` is borrowed. Raises MemoryError. Returns the id.
    cdef uint32_t arm_c(self, uint64_t deadline, void *owner) except? 0xFFFFFFFF
    # One store: the timer stays in its slot, and is looked at again when that slot comes up. `deadline` may only grow;
    # to bring a deadline forward, call `hasten`.
    cdef void refresh_c(self, uint32_t timer, uint64_t deadline) noexcept nogil
    # Any deadline. One that has passed expires at the next advance, or in the running one if it was due in it.
    cdef void hasten_c(self, uint32_t timer, uint64_t deadline) noexcept nogil
    cdef void cancel_c(self, uint32_t timer) noexcept nogil
    # Move on to `now`, never back; `expired` is called once for each timer whose deadline is <= now, in no order. The
    # timer is free by then: the callee may arm, refresh, hasten or cancel any other timer. What it arms or hastens to a
    # tick that has passed expires at the next advance. Returns how many expired: inside of an advance 0, doing nothing.
    cdef uint32_t advance_c(self, uint64_t now, expired_fn expired, void *context) noexcept
    # The tick at which the wheel must next be advanced at the latest, or UINT64_MAX when nothing is armed.
    cdef uint64_t next_c(self) noexcept nogil
