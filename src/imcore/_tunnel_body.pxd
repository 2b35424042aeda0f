# How a message's body is read (RFC 9112, 6 and 7): chunk sizes and their extensions, and bytes handed on as they lie.
# Part of `_tunnel.pyx`, by which alone it is used.

from libc.stdint cimport uint8_t, uint64_t

from ._http cimport CR, FIELD, HEXDIG, LF, QUOTED, SETS, TOKEN, hex_value
from ._tunnel cimport *
from ._tunnel_head cimport *


cdef inline size_t chunk_line(reader_t *r, const uint8_t *p, size_t at, size_t n) noexcept nogil:
    """A chunk's size and extensions (RFC 9112, 7.1) in p[at:n]; p[0] is the stream's byte r.offset."""
    cdef uint8_t c
    while at < n:
        c = p[at]
        if r.state == AT_CHUNK_SIZE:
            if SETS[c] & HEXDIG and r.digits < 16:
                r.left = r.left * 16 + hex_value(c)
                r.digits += 1
                if r.left > r.limits.body or r.body > r.limits.body - r.left:
                    return fail(r, BODY_TOO_LARGE, r.offset + at)
            elif r.digits == 0 or c != c";" and c != CR:
                return fail(r, BAD_CHUNK_SIZE, r.offset + at)
            else:
                r.extension = 0
                r.state = AT_EXT_END
                continue
        elif r.state == AT_CHUNK_LF:
            if c != LF:
                return fail(r, BARE_CR, r.offset + at)
            if r.left:
                r.state = AT_CHUNK_BODY
            else:
                r.state = AT_FIELD
                r.trailers = True
                r.room = r.limits.head
                r.count = 0
            return at + 1
        elif c == CR and (r.state == AT_EXT_END or r.state == AT_EXT_NAME_MORE or r.state == AT_EXT_VALUE_MORE):
            r.state = AT_CHUNK_LF
        elif r.extension == r.limits.extension or r.extensions == r.limits.extensions:
            return fail(r, EXTENSIONS_TOO_LONG, r.offset + at)
        else:
            r.extension += 1
            r.extensions += 1
            r.state = in_extension(r.state, c)
            if r.state == AT_FAILED:
                return fail(r, BARE_LF if c == LF else BAD_EXTENSION, r.offset + at)
        at += 1
    return at


cdef inline uint8_t in_extension(uint8_t state, uint8_t c) noexcept nogil:
    """The state behind one more byte of chunk extensions (RFC 9112, 7.1.1), without the bad whitespace."""
    if state == AT_EXT_ESCAPED:
        return AT_EXT_QUOTED if SETS[c] & FIELD else AT_FAILED
    if state == AT_EXT_QUOTED:
        if SETS[c] & QUOTED:
            return AT_EXT_QUOTED
        return AT_EXT_END if c == c'"' else AT_EXT_ESCAPED if c == c"\\" else AT_FAILED
    if SETS[c] & TOKEN and state != AT_EXT_END:
        return AT_EXT_NAME_MORE if state < AT_EXT_VALUE else AT_EXT_VALUE_MORE
    if c == c";" and state != AT_EXT_NAME and state != AT_EXT_VALUE:
        return AT_EXT_NAME
    if c == c"=" and state == AT_EXT_NAME_MORE:
        return AT_EXT_VALUE
    if c == c'"' and state == AT_EXT_VALUE:
        return AT_EXT_QUOTED
    return AT_FAILED


cdef inline size_t body(reader_t *r, const uint8_t *p, size_t n, event_t *event) noexcept nogil:
    """The body's bytes at p, of which there is at least one."""
    cdef uint64_t take
    if r.state == AT_CLOSE_BODY:
        take = r.limits.body - r.body if r.body < r.limits.body else 0
        if take == 0:
            return fail(r, BODY_TOO_LARGE, r.offset)
        take = min(take, <uint64_t> n)
    else:
        take = min(r.left, <uint64_t> n)
        r.left -= take
        if r.left == 0:
            r.state = AT_ENDING if r.state == AT_LENGTH_BODY else AT_CHUNK_CR
    r.body += take
    event.type = EVENT_DATA
    event.data = p
    event.size = <size_t> take
    return event.size
