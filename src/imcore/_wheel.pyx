# cython: binding=False, embedsignature.format=clinic, auto_pickle=False
"""The timer wheel: any number of deadlines, of which nearly all are put off again before they pass.

Putting one off is one store: the timer keeps its slot, and is placed anew when that slot comes up and the deadline lies
ahead. So nothing expires early, nothing late, and no work is proportional to all timers. A deadline is a tick, and the
caller brings the tick: no clock, no event loop, no thread in here.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

cdef extern from *:
    int __builtin_clzll(unsigned long long) noexcept nogil
    int __builtin_ctzll(unsigned long long) noexcept nogil

cdef extern from "Python.h":  # Cython's own declarations say that these may raise
    ctypedef int (*visitproc)(PyObject *, void *) noexcept
    ctypedef int (*traverseproc)(PyObject *, visitproc, void *) noexcept
    ctypedef int (*inquiry)(PyObject *) noexcept
    ctypedef struct PyTypeObject:
        Py_ssize_t tp_basicsize
        traverseproc tp_traverse
        inquiry tp_clear

cdef inline timer_t *timer_at(TimerWheel wheel, uint32_t timer) noexcept nogil:
    return &wheel.segments[timer // SEGMENT].timers[timer % SEGMENT]

cdef inline uint32_t *generation_at(TimerWheel wheel, uint32_t timer) noexcept nogil:
    return &wheel.segments[timer // SEGMENT].generations[timer % SEGMENT]

cdef inline void push(TimerWheel wheel, uint32_t slot, uint32_t timer, timer_t *node) noexcept nogil:
    node.next = wheel.heads[slot]
    node.prev = FIRST | slot
    if node.next != NO_TIMER:
        timer_at(wheel, node.next).prev = timer
    wheel.heads[slot] = timer
    wheel.occupied[slot >> 6] |= <uint64_t> 1 << (slot & 63)

cdef inline void unlink(TimerWheel wheel, timer_t *node) noexcept nogil:
    cdef uint32_t slot
    if node.next != NO_TIMER:
        timer_at(wheel, node.next).prev = node.prev
    if not node.prev & FIRST:
        timer_at(wheel, node.prev).next = node.next
        return
    slot = node.prev ^ FIRST
    wheel.heads[slot] = node.next
    if node.next == NO_TIMER:
        wheel.occupied[slot >> 6] &= ~(<uint64_t> 1 << (slot & 63))

# A slot is 4**level ticks wide and has a number, tick >> 2 * level; it comes up at its first tick. A timer goes to the
# lowest level where its number is at most 64 above that of now, so no two numbers meet in a slot. `late`: or where.
# Wider steps between the levels would bring up a larger share of all timers at once: now it is 1/64 to 1/16.
cdef inline void place(TimerWheel wheel, uint32_t timer, timer_t *node, uint32_t late) noexcept nogil:
    cdef uint32_t level
    if node.deadline <= wheel.now:
        push(wheel, late, timer, node)
    else:
        level = <uint32_t> (59 - __builtin_clzll((node.deadline - wheel.now) | 63)) // 2
        push(wheel, level << 6 | <uint32_t> (node.deadline >> 2 * level & 63), timer, node)

cdef inline uint64_t rotated(uint64_t bits, uint32_t left) noexcept nogil:
    return bits << (left & 63) | bits >> (-left & 63)

# Empty a slot that has come up: to DUE, or to where the deadline has been put off to.
cdef void sweep(TimerWheel wheel, uint32_t slot) noexcept nogil:
    cdef uint32_t timer = wheel.heads[slot], following
    cdef timer_t *node
    wheel.heads[slot] = NO_TIMER
    wheel.occupied[slot >> 6] &= ~(<uint64_t> 1 << (slot & 63))
    while timer != NO_TIMER:
        node = timer_at(wheel, timer)
        following = node.next
        place(wheel, timer, node, DUE)
        timer = following

# Empty every slot that comes up on the way from `before` to `wheel.now`, however far: only occupied ones cost anything.
cdef void turn(TimerWheel wheel, uint64_t before) noexcept nogil:
    cdef uint32_t level
    cdef uint64_t number, passed, slots
    if wheel.heads[OVERDUE] != NO_TIMER:
        sweep(wheel, OVERDUE)
    for level in range(<uint32_t> LEVELS):
        number = before >> 2 * level
        passed = (wheel.now >> 2 * level) - number
        if passed == 0:
            return
        slots = wheel.occupied[level]
        if passed < 64:
            slots &= rotated((<uint64_t> 1 << passed) - 1, <uint32_t> number + 1)
        while slots:
            sweep(wheel, level << 6 | <uint32_t> __builtin_ctzll(slots))
            slots &= slots - 1

cdef int grow(TimerWheel wheel) except -1:
    cdef uint32_t count = wheel.unused // SEGMENT
    cdef segment_t **segments
    if wheel.unused == FIRST:
        raise MemoryError("expected at most 2**31 timers armed at a time")
    segments = <segment_t **> realloc(wheel.segments, (count + 1) * sizeof(segment_t *))
    if segments != NULL:
        wheel.segments = segments
        segments[count] = <segment_t *> calloc(1, sizeof(segment_t))
    if segments == NULL or segments[count] == NULL:
        raise MemoryError
    return 0

# The timer of a Python id. An even generation is no id's: such a timer is free, or was armed from C.
cdef inline uint32_t found(TimerWheel wheel, uint64_t id) except? 0xFFFFFFFF:
    cdef uint32_t timer = <uint32_t> id
    if id >> 32 & 1 and timer < wheel.unused and generation_at(wheel, timer)[0] == id >> 32:
        return timer
    raise LookupError(f"timer: expected the id of an armed timer, got {id}: expired, cancelled or never armed")

cdef inline int put_off(TimerWheel wheel, uint64_t id, uint64_t deadline) except -1:
    cdef timer_t *node = timer_at(wheel, found(wheel, id))
    if deadline < node.deadline:
        raise ValueError(f"deadline: expected {node.deadline} or later, got {deadline}; hasten() brings it forward")
    node.deadline = deadline
    return 0

# The end of a timer that was armed from Python and has not expired.
cdef void drop(TimerWheel wheel, uint32_t timer) noexcept:
    cdef void *owner = timer_at(wheel, timer).owner
    generation_at(wheel, timer)[0] += 1
    wheel.owned -= 1
    wheel.cancel_c(timer)
    Py_DECREF(<object> owner)  # last, as it may run code that comes back here

cdef void drop_all(TimerWheel wheel) noexcept:
    cdef uint32_t timer
    for timer in range(wheel.unused):
        if generation_at(wheel, timer)[0] & 1:
            drop(wheel, timer)

cdef void hand_over(void *context, uint32_t timer, void *owner) noexcept:
    cdef TimerWheel wheel = <TimerWheel> context
    try:
        wheel.callback(<object> owner)
    except BaseException as error:  # the others expire all the same, then `advance_into` raises
        wheel.failures.append(error)


@cython.final
cdef class TimerWheel:
    """Timers, each with a deadline in ticks and an owner. `len()` counts those that are armed.

    now: the tick to start from. Ticks are 0 to 2**64 - 1 in the caller's unit; what is outside raises OverflowError. A
    timer holds a reference to its owner until it expires or is cancelled. From then on its id raises LookupError: it
    comes again only when 2**31 other timers have had the same place.
    """

    def __cinit__(self, uint64_t now=0):
        self.now = now
        self.freed = NO_TIMER
        memset(self.heads, 0xFF, sizeof(self.heads))  # NO_TIMER each

    def __dealloc__(self):
        cdef uint32_t i
        drop_all(self)
        for i in range((self.unused + SEGMENT - 1) // SEGMENT):
            free(self.segments[i])
        free(self.segments)

    cdef uint32_t arm_c(self, uint64_t deadline, void *owner) except? 0xFFFFFFFF:
        cdef uint32_t timer = self.freed
        cdef timer_t *node
        if timer == NO_TIMER:
            if self.unused % SEGMENT == 0:
                grow(self)
            timer = self.unused
            self.unused += 1
            node = timer_at(self, timer)
        else:
            node = timer_at(self, timer)
            self.freed = node.next
        node.deadline = deadline
        node.owner = owner
        place(self, timer, node, OVERDUE)
        self.armed += 1
        return timer

    cdef void refresh_c(self, uint32_t timer, uint64_t deadline) noexcept nogil:
        timer_at(self, timer).deadline = deadline

    cdef void hasten_c(self, uint32_t timer, uint64_t deadline) noexcept nogil:
        cdef timer_t *node = timer_at(self, timer)
        cdef bint listed = node.deadline <= self.now  # in OVERDUE or DUE, where the deadline is looked at anyway
        node.deadline = deadline
        if not listed:
            unlink(self, node)
            place(self, timer, node, OVERDUE)

    cdef void cancel_c(self, uint32_t timer) noexcept nogil:
        cdef timer_t *node = timer_at(self, timer)
        unlink(self, node)
        node.next = self.freed
        self.freed = timer
        self.armed -= 1

    cdef uint32_t advance_c(self, uint64_t now, expired_fn expired, void *context) noexcept:
        cdef uint64_t before = self.now
        cdef uint32_t timer, count = 0
        cdef timer_t *node
        cdef void *owner
        cdef bint owned
        if self.advancing:
            return 0
        self.advancing = True
        self.now = max(before, now)
        turn(self, before)
        while self.heads[DUE] != NO_TIMER:
            timer = self.heads[DUE]
            node = timer_at(self, timer)
            if node.deadline > self.now:  # put off by a callee
                unlink(self, node)
                place(self, timer, node, OVERDUE)
                continue
            owner = node.owner
            owned = self.owned and generation_at(self, timer)[0] & 1
            if owned:
                generation_at(self, timer)[0] += 1
                self.owned -= 1
            self.cancel_c(timer)
            expired(context, timer, owner)
            if owned:
                Py_DECREF(<object> owner)
            count += 1
        self.advancing = False
        return count

    cdef uint64_t next_c(self) noexcept nogil:
        cdef uint64_t soonest = UINT64_MAX, number
        cdef uint32_t level
        if self.occupied[LEVELS]:
            return self.now
        for level in range(<uint32_t> LEVELS):
            if self.occupied[level]:
                number = (self.now >> 2 * level) + 1
                number += __builtin_ctzll(rotated(self.occupied[level], -<uint32_t> number))
                soonest = min(soonest, number << 2 * level)
        return soonest

    def __len__(self):
        return self.armed

    def arm(self, uint64_t deadline, object owner, /):
        """Arm a timer and return its id. One whose deadline has passed expires at the next advance, to any tick."""
        cdef uint32_t timer = self.arm_c(deadline, <void *> owner)
        cdef uint32_t *generation = generation_at(self, timer)
        generation[0] += 1
        self.owned += 1
        Py_INCREF(owner)
        return <uint64_t> generation[0] << 32 | timer

    def refresh(self, uint64_t timer, uint64_t deadline, /):
        """Put the deadline off, by one store. Raises LookupError, and ValueError if it would come forward."""
        put_off(self, timer, deadline)

    def refresh_many(self, object timers, uint64_t deadline, /):
        """`refresh` each id in a buffer of unsigned 64-bit integers (`array("Q")`), up to the first that raises."""
        cdef Py_buffer view
        cdef uint64_t timer
        cdef Py_ssize_t at
        PyObject_GetBuffer(timers, &view, PyBUF_FORMAT | PyBUF_ND)
        try:
            if view.itemsize != 8 or view.format[0] not in b"QL":
                raise TypeError('timers: expected a buffer of unsigned 64-bit integers, such as array("Q")')
            for at in range(0, view.len, 8):
                memcpy(&timer, <char *> view.buf + at, 8)  # a memoryview may lie unaligned
                put_off(self, timer, deadline)
        finally:
            PyBuffer_Release(&view)

    def hasten(self, uint64_t timer, uint64_t deadline, /):
        """Set the deadline, sooner or later, by placing the timer anew. Raises LookupError."""
        self.hasten_c(found(self, timer), deadline)

    def cancel(self, uint64_t timer, /):
        """Disarm, and let go of the owner. Raises LookupError."""
        drop(self, found(self, timer))

    def advance(self, uint64_t now, /):
        """Move on to tick `now` and return the owners of the timers whose deadline is <= now, in no order.

        Raises ValueError if `now` lies before `self.now`, and RuntimeError inside of an advance.
        """
        cdef list owners = []
        self.advance_into(now, owners.append)
        return owners

    def advance_into(self, uint64_t now, object callback, /):
        """`advance` that calls `callback(owner)` as each timer expires; by then its id is stale.

        The callback may arm, refresh, hasten and cancel. What it cancels or puts off does not expire in this advance,
        what it arms or hastens to a tick that has passed does in the next one. What it raises is raised when all have
        expired, as one BaseExceptionGroup.
        """
        cdef list failures = []
        if self.advancing:
            raise RuntimeError("advance: expected a wheel at rest; its callbacks can't advance it")
        if now < self.now:
            raise ValueError(f"now: expected {self.now} or later, got {now}")
        if self.armed != self.owned:
            raise RuntimeError("advance: expected only timers armed from Python; where C code armed some, it advances")
        self.callback, self.failures = callback, failures
        self.advance_c(now, hand_over, <void *> self)
        self.callback = self.failures = None
        if failures:
            raise BaseExceptionGroup("raised as timers expired", failures)

    @property
    def next(self):
        """The tick to advance to at the latest, None if none is armed. Nothing expires before; maybe nothing at it."""
        return self.next_c() if self.armed else None

    @property
    def memory(self):
        """Bytes held: 28 for each of the most timers ever armed at a time, in steps of 4,096, and about 8 KiB."""
        cdef size_t segments = (self.unused + SEGMENT - 1) // SEGMENT
        return (<PyTypeObject *> TimerWheel).tp_basicsize + segments * (sizeof(segment_t) + sizeof(segment_t *))


# The owners stand in C memory, which Cython does not show to the collector: without these two, a wheel that one of its
# owners refers to would never be freed.
cdef traverseproc traverse_fields = (<PyTypeObject *> TimerWheel).tp_traverse
cdef inquiry clear_fields = (<PyTypeObject *> TimerWheel).tp_clear


@cython.linetrace(False)  # no Python code may run while the collector counts
cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef uint32_t timer
    cdef int stop = traverse_fields(self, visit, arg)
    if (<TimerWheel> self).owned:
        for timer in range((<TimerWheel> self).unused):
            if not stop and generation_at(<TimerWheel> self, timer)[0] & 1:
                stop = visit(<PyObject *> timer_at(<TimerWheel> self, timer).owner, arg)
    return stop

cdef int clear(PyObject *self) noexcept:
    drop_all(<TimerWheel> self)
    return clear_fields(self)

(<PyTypeObject *> TimerWheel).tp_traverse = traverse
(<PyTypeObject *> TimerWheel).tp_clear = clear
