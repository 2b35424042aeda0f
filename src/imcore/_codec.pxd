# The frame at C level (wire: "Frames"): a borrowed view, the check that makes one, and the header that starts one.
# Everything here works on the caller's memory, allocates nothing and never looks past `n`.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    MAGIC = 0xA1
    HEADER = 16
    LAST_TYPE = 11
    KNOWN_FLAGS = 0x07
    FRAME_MAX = 16 * 1024 * 1024  # no limit may be set above this

cdef enum fault_t:  # what `parse` found wrong, negative so that it never looks like a size
    BAD_MAGIC = -1
    BAD_VERSION = -2
    BAD_TYPE = -3
    BAD_FLAGS = -4
    ROUTE_TOO_LONG = -5
    BODY_TOO_LARGE = -6
    BAD_ROUTE = -7


cdef struct frame_t:
    uint8_t type
    uint8_t flags
    uint8_t route_len
    uint32_t length         # route and body
    uint32_t body_len
    uint64_t id
    const uint8_t *route    # borrowed: valid while the bytes that were parsed are
    const uint8_t *body
    uint32_t fault_at       # offset of the byte at fault, from the start of the frame


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t> p[0] << 24) | (<uint32_t> p[1] << 16) | (<uint32_t> p[2] << 8) | p[3]


cdef inline uint64_t be64(const uint8_t *p) noexcept nogil:
    return (<uint64_t> be32(p) << 32) | be32(p + 4)


cdef inline void put_be32(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t> (value >> 24)
    p[1] = <uint8_t> (value >> 16)
    p[2] = <uint8_t> (value >> 8)
    p[3] = <uint8_t> value


cdef inline void put_be64(uint8_t *p, uint64_t value) noexcept nogil:
    put_be32(p, <uint32_t> (value >> 32))
    put_be32(p + 4, <uint32_t> value)


cdef inline void put_header(uint8_t *p, uint8_t type, uint8_t flags, uint8_t route_len, uint32_t length,
                            uint64_t id) noexcept nogil:
    p[0] = MAGIC
    p[1] = type
    p[2] = flags
    p[3] = route_len
    put_be32(p + 4, length)
    put_be64(p + 8, id)


cdef tuple NAMES  # of the frame types, by number

cdef uint32_t first_bad_utf8(const uint8_t *p, uint32_t n) noexcept nogil  # n when all of it is UTF-8 (RFC 3629)


cdef inline bint is_ascii(const uint8_t *p, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t seen = 0
    for i in range(n):
        seen |= p[i]
    return seen < 0x80


# The size of the first frame in p[:n], 0 when more bytes are needed to tell, or a fault_t. A fault is found as soon as
# the byte that shows it is there, so that no cut of the stream changes the verdict.
cdef inline int64_t parse(const uint8_t *p, size_t n, uint32_t limit, frame_t *frame) noexcept nogil:
    if n == 0:
        return 0
    frame.fault_at = 0
    if p[0] != MAGIC:
        return BAD_VERSION if p[0] >> 4 == MAGIC >> 4 else BAD_MAGIC
    if n == 1:
        return 0
    frame.fault_at = 1
    frame.type = p[1]
    if frame.type == 0 or frame.type > LAST_TYPE:
        return BAD_TYPE
    if n == 2:
        return 0
    frame.fault_at = 2
    frame.flags = p[2]
    if frame.flags & ~KNOWN_FLAGS:
        return BAD_FLAGS
    if n < 8:
        return 0
    frame.length = be32(p + 4)
    frame.fault_at = 4
    if frame.length > limit:
        return BODY_TOO_LARGE
    frame.fault_at = 3
    frame.route_len = p[3]
    if frame.route_len > frame.length:
        return ROUTE_TOO_LONG
    if n < HEADER or n - HEADER < frame.length:
        return 0
    frame.id = be64(p + 8)
    frame.route = p + HEADER
    frame.body = frame.route + frame.route_len
    frame.body_len = frame.length - frame.route_len
    if frame.route_len and not is_ascii(frame.route, frame.route_len):
        frame.fault_at = first_bad_utf8(frame.route, frame.route_len)
        if frame.fault_at < frame.route_len:
            frame.fault_at += HEADER
            return BAD_ROUTE
    return HEADER + <int64_t> frame.length


# The whole size of the frame that starts at p, as far as its header tells: what a buffer for it must hold. Only for
# bytes of which `parse` has said 0: then the length is within the limit, and the sum can't overflow where size_t has
# 32 bits.
cdef inline size_t size_wanted(const uint8_t *p, size_t n) noexcept nogil:
    return HEADER if n < 8 else HEADER + <size_t> be32(p + 4)


# The typed error for a fault in a frame that starts at byte `offset` of its stream.
cdef object fault_error(int64_t fault, const frame_t *frame, uint32_t limit, uint64_t offset)


cdef class Frame:
    cdef readonly uint8_t type
    cdef readonly uint8_t flags
    cdef readonly uint64_t id
    cdef readonly str route
    cdef readonly bytes body


cdef class FrameDecoder:
    cdef Py_buffer source   # what was fed last, borrowed
    cdef Py_ssize_t left    # how much of its end was not looked at yet
    cdef uint8_t *tail      # one incomplete frame
    cdef size_t tail_len
    cdef size_t tail_cap
    cdef uint64_t start     # stream offset of the next frame
    cdef uint32_t limit
    cdef object error       # the FrameError that was met; never raised itself

    cdef object met(self)
    cdef int keep(self, size_t n) except -1
    cdef void drop_tail(self) noexcept
    cdef void let_go(self) noexcept
