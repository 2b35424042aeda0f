# One step of reading a message (RFC 9112): which of its parts goes on, up to the next event. Part of `_tunnel.pyx`, by
# which alone it is used.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ._http cimport CR, LF
from ._tunnel cimport *
from ._tunnel_body cimport body, chunk_line
from ._tunnel_head cimport *


cdef inline part_t part_of(const reader_t *r) noexcept nogil:
    if r.state < AT_METHOD:
        return PART_IDLE
    if r.state < AT_FIELD:
        return PART_LINE
    if r.state < AT_LENGTH_BODY:
        return PART_TRAILERS if r.trailers else PART_HEAD
    if r.state < AT_OVER:
        return PART_BODY
    return PART_SWITCHED if r.state == AT_SWITCHED else PART_OVER


cdef inline uint64_t taken_of(const reader_t *r) noexcept nogil:
    """Bytes of that part so far."""
    cdef part_t part = part_of(r)
    if part == PART_LINE:
        return r.limits.line - r.room
    if part == PART_HEAD or part == PART_TRAILERS:
        return r.limits.head - r.room
    return r.body if part == PART_BODY else 0


cdef inline void end_message(reader_t *r, event_t *event) noexcept nogil:
    event.type = EVENT_END
    event.keep_alive = not r.close
    r.trailers = False
    r.state = AT_OVER if r.close else AT_IDLE
    if r.asked == ASKED_CONNECT and 200 <= r.status < 300:
        event.keep_alive = False
        r.state = AT_SWITCHED
    r.asked = ASKED_NOTHING


cdef inline int64_t step(reader_t *r, const uint8_t *p, size_t n, event_t *event, bint within) noexcept nogil:
    """within: only to the body's next bytes, or to its end, which is left to the next step."""
    cdef size_t at = 0, used = 0
    event.type = EVENT_NONE
    if r.held != NULL and r.state >= AT_LENGTH_BODY:
        tunnel_free(r)
    while event.type == EVENT_NONE and r.state != AT_FAILED:
        if r.state == AT_ENDING:
            if not within:
                end_message(r, event)
            break
        if at == n or r.state == AT_SWITCHED:
            break
        if r.state < AT_HEAD_DONE:
            if r.trailers:
                used = read_fields(r, p + at, 0, n - at, r.offset)
            else:
                used = read_head(r, p + at, n - at, event)
        elif r.state == AT_CHUNK_BODY or r.state == AT_LENGTH_BODY or r.state == AT_CLOSE_BODY:
            used = body(r, p + at, n - at, event)
        elif r.state == AT_CHUNK_CR or r.state == AT_CHUNK_END_LF:
            used = 1
            if p[at] != (CR if r.state == AT_CHUNK_CR else LF):
                fail(r, BAD_CHUNK_END, r.offset)
            elif r.state == AT_CHUNK_CR:
                r.state = AT_CHUNK_END_LF
            else:
                r.state = AT_CHUNK_SIZE
                r.digits = 0
        elif r.state == AT_OVER:
            fail(r, AFTER_CLOSE, r.offset)
        else:
            used = chunk_line(r, p + at, 0, n - at)
        at += used
        r.offset += used
    if r.state == AT_FAILED:
        tunnel_free(r)
        return r.fault
    return <int64_t> at
