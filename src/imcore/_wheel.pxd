# The timer wheel's C interface. A deadline is a tick; ticks are whatever the caller counts. No clock in here.

from libc.stdint cimport uint32_t, uint64_t

cdef uint32_t NO_TIMER  # the id that is never given out

ctypedef void (*expired_fn)(void *context, uint32_t timer, void *owner) noexcept


cdef class TimerWheel:
    cdef readonly uint64_t now              # the tick that the wheel stands at
    # ... the arena and the slots are private to _wheel.pyx ...

    # Arm: `owner` is borrowed. Raises MemoryError. Returns the id.
    cdef uint32_t arm_c(self, uint64_t deadline, void *owner) except? 0xFFFFFFFF
    # One store: the timer stays in its slot, and is looked at again when that slot comes up. `deadline` may only grow;
    # to bring a deadline forward, call `hasten`.
    cdef void refresh_c(self, uint32_t timer, uint64_t deadline) noexcept nogil
    cdef void hasten_c(self, uint32_t timer, uint64_t deadline) noexcept nogil
    cdef void cancel_c(self, uint32_t timer) noexcept nogil
    # Move on to `now`; `expired` is called once for each timer whose deadline is <= now. The timer is free by then:
    # the callee may arm, refresh, or cancel any timer. Returns how many expired.
    cdef uint32_t advance_c(self, uint64_t now, expired_fn expired, void *context) noexcept
    # The tick at which the wheel must next be advanced at the latest, or UINT64_MAX when nothing is armed.
    cdef uint64_t next_c(self) noexcept nogil
