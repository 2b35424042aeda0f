# How a message's head is read (RFC 9112, 2 to 6): the states, the first line, the fields, what they say of the body.
# Part of `_tunnel.pyx`, by which alone it is used: every function goes on where the last bytes ended, at most once over
# each byte, and answers how far it came. `h` is the head's first byte, wherever the head lies.

from cpython.mem cimport PyMem_RawRealloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ._http cimport (
    CHUNKED, CR, DIGIT, FIELD, HTAB, LF, NO_CODING, SETS, SP, TARGET, TOKEN, authority_fault, coding_of, coding_t,
    connection_fault, is_word, run, same, target_fault,
)
from ._tunnel cimport *

cdef enum:
    MOST_INTERIM = 8        # responses 1xx before the real one
    REASON_AT = 13          # behind "HTTP/1.1 200 "

cdef enum state_t:  # in the order in which they are passed
    AT_IDLE
    AT_SKIPPED_LF   # in the one CRLF that may stand before a request
    AT_SKIPPED
    AT_METHOD
    AT_TARGET
    AT_VERSION
    AT_STATUS
    AT_REASON       # in a request: the line's end
    AT_LINE_LF
    AT_FIELD
    AT_NAME
    AT_VALUE
    AT_VALUE_LF
    AT_FIELDS_LF
    AT_HEAD_DONE
    AT_LENGTH_BODY
    AT_CLOSE_BODY
    AT_CHUNK_SIZE
    AT_EXT_NAME
    AT_EXT_NAME_MORE
    AT_EXT_VALUE
    AT_EXT_VALUE_MORE
    AT_EXT_QUOTED
    AT_EXT_ESCAPED
    AT_EXT_END
    AT_CHUNK_LF
    AT_CHUNK_BODY
    AT_CHUNK_CR
    AT_CHUNK_END_LF
    AT_ENDING       # all was read, END is due
    AT_OVER
    AT_SWITCHED
    AT_FAILED


cdef inline size_t fail(reader_t *r, fault_t fault, uint64_t at) noexcept nogil:
    r.state = AT_FAILED
    r.fault = fault
    r.fault_at = at
    return 0


cdef inline size_t before(reader_t *r, const uint8_t *p, size_t n) noexcept nogil:
    """Up to a message's first byte: at most one empty line before a request (RFC 9112, 2.2)."""
    cdef size_t at = 0
    while at < n:
        if r.state == AT_SKIPPED_LF:
            if p[at] != LF:
                return fail(r, BARE_CR, r.offset + at)
            r.state = AT_SKIPPED
        elif r.response:
            if not r.asked:
                return fail(r, UNASKED, r.offset)
            r.state = AT_VERSION
            break
        elif r.state == AT_IDLE and p[at] == CR:
            r.state = AT_SKIPPED_LF
        else:
            r.state = AT_METHOD
            break
        at += 1
    r.start = r.offset + at
    r.room = r.limits.line
    r.body = r.extensions = r.version_at = 0
    r.close = r.has_host = r.has_length = r.chunked = r.trailers = False
    return at


cdef inline bint version_allows(size_t i, uint8_t c) noexcept nogil:
    if i == 5 or i == 7:
        return SETS[c] & DIGIT != 0
    return c == (<const uint8_t *> b"HTTP/1.1")[i]


cdef inline size_t start_line(reader_t *r, const uint8_t *h, size_t at, size_t end) noexcept nogil:
    """The request line or status line in h[at:end] (RFC 9112, 3 and 4); h is the head's first byte."""
    cdef size_t status_at
    cdef int64_t bad
    if r.state == AT_METHOD:
        at = run(h, at, end, TOKEN)
        if at == end:
            return at
        if h[at] != SP or at == 0:
            return fail(r, BAD_METHOD, r.start + at)
        at += 1
        r.target_at = <uint32_t> at
        r.state = AT_TARGET
    if r.state == AT_TARGET:
        at = run(h, at, end, TARGET)
        if at == end:
            return at
        bad = at - r.target_at
        if h[at] == SP:
            bad = target_fault(h, r.target_at - 1, h + r.target_at, at - r.target_at)
        if bad >= 0:
            return fail(r, BAD_TARGET, r.start + r.target_at + bad)
        at += 1
        r.version_at = <uint32_t> at
        r.state = AT_VERSION
    status_at = r.version_at + 8
    if r.state == AT_VERSION:
        while at < end and at < status_at:
            if not version_allows(at - r.version_at, h[at]):
                return fail(r, BAD_VERSION, r.start + at)
            at += 1
        if at < status_at:
            return at
        if h[at - 3] != c"1" or h[at - 1] > c"1":
            return fail(r, OTHER_VERSION, r.start + r.version_at)
        r.minor = h[at - 1] - c"0"
        r.close = r.minor == 0
        r.status = 0
        r.state = AT_STATUS if r.response else AT_REASON
    if r.state == AT_STATUS:
        while at < end and at < status_at + 5:
            if at == status_at or at == status_at + 4:
                if h[at] != SP:
                    return fail(r, BAD_STATUS, r.start + at)
            elif not SETS[h[at]] & DIGIT or at == status_at + 1 and not c"1" <= h[at] <= c"5":
                return fail(r, BAD_STATUS, r.start + at)
            else:
                r.status = r.status * 10 + (h[at] - c"0")
            at += 1
        if at < status_at + 5:
            return at
        r.state = AT_REASON
    if r.state == AT_REASON:
        if r.response:
            at = run(h, at, end, FIELD)
        if at == end:
            return at
        if h[at] != CR:
            return fail(r, BARE_LF if h[at] == LF else BAD_REASON if r.response else BAD_VERSION, r.start + at)
        at += 1
        r.state = AT_LINE_LF
    if at == end:
        return at
    if h[at] != LF:
        return fail(r, BARE_CR, r.start + at)
    at += 1
    r.fields_at = <uint32_t> at
    r.room = r.limits.head
    r.count = 0
    r.state = AT_FIELD
    return at


cdef inline void judge_field(reader_t *r, const uint8_t *h, size_t name_len, size_t end) noexcept nogil:
    """What a field of a head says of the message's frame; h[end] is the CR behind its value."""
    cdef const uint8_t *name = h + r.name_at
    cdef size_t begin = r.value_at
    cdef uint64_t name_at = r.start + r.name_at
    cdef int64_t bad
    cdef coding_t coding
    cdef bint close = False
    if name_len != 4 and name_len != 10 and name_len != 14 and name_len != 17:
        return
    while begin < end and (h[begin] == SP or h[begin] == HTAB):
        begin += 1
    while begin < end and (h[end - 1] == SP or h[end - 1] == HTAB):
        end -= 1
    if name_len == 4 and same(name, b"host", 4) and not r.response:
        bad = authority_fault(h + begin, end - begin, False)
        if r.has_host or bad >= 0:
            fail(r, TWO_HOSTS if r.has_host else BAD_HOST, name_at if r.has_host else r.start + begin + bad)
        r.has_host = True
    elif name_len == 10 and same(name, b"connection", 10):
        bad = connection_fault(h + begin, end - begin, &close)
        if bad >= 0:
            fail(r, BAD_CONNECTION, r.start + begin + bad)
        r.close |= close
    elif name_len == 14 and same(name, b"content-length", 14):
        if r.has_length or r.chunked:
            fail(r, TWO_LENGTHS if r.has_length else LENGTH_AND_CODING, name_at)
            return
        r.has_length = True
        r.length = 0
        r.length_at = <uint32_t> begin
        if begin == end or run(h, begin, end, DIGIT) < end:
            fail(r, BAD_LENGTH, r.start + run(h, begin, end, DIGIT))
            return
        while begin < end:
            r.length = min(r.length * 10 + (h[begin] - c"0"), <uint64_t> 1 << 60)  # above every limit
            begin += 1
    elif name_len == 17 and same(name, b"transfer-encoding", 17):
        coding = coding_of(h + begin, end - begin)
        if r.chunked:
            fail(r, TWO_CODINGS, name_at)
        elif r.has_length:
            fail(r, LENGTH_AND_CODING, name_at)
        elif r.minor == 0:
            fail(r, CODING_IN_1_0, name_at)
        elif coding != CHUNKED:
            fail(r, BAD_CODING if coding == NO_CODING else OTHER_CODINGS, r.start + begin)
        r.chunked = True


cdef inline size_t field_lines(reader_t *r, const uint8_t *h, size_t at, size_t end, uint64_t base) noexcept nogil:
    """Fields in h[at:end] up to and with the empty line (RFC 9112, 5 and 7.1.2). h[0] is the stream's byte `base`."""
    while at < end:
        if r.state == AT_FIELD:
            if h[at] == CR:
                r.state = AT_FIELDS_LF
                at += 1
                continue
            if r.count == r.limits.fields:
                return fail(r, TOO_MANY_FIELDS, base + at)
            if not SETS[h[at]] & TOKEN:
                if h[at] == SP or h[at] == HTAB:
                    return fail(r, FOLDED, base + at)
                return fail(r, BARE_LF if h[at] == LF else BAD_NAME, base + at)
            r.count += 1
            r.name_at = <uint32_t> at
            r.state = AT_NAME
        if r.state == AT_NAME:
            at = run(h, at, end, TOKEN)
            if at == end:
                return at
            if h[at] != c":":
                return fail(r, BAD_NAME, base + at)
            at += 1
            r.value_at = <uint32_t> at
            r.state = AT_VALUE
        if r.state == AT_VALUE:
            at = run(h, at, end, FIELD)
            if at == end:
                return at
            if h[at] != CR:
                return fail(r, BARE_LF if h[at] == LF else BAD_VALUE, base + at)
            at += 1
            r.state = AT_VALUE_LF
            if at == end:
                return at
        if h[at] != LF:
            return fail(r, BARE_CR, base + at)
        if r.state == AT_FIELDS_LF:
            r.state = AT_ENDING if r.trailers else AT_HEAD_DONE
            return at + 1
        r.state = AT_FIELD
        if not r.trailers:
            judge_field(r, h, r.value_at - 1 - r.name_at, at - 1)
            if r.state == AT_FAILED:
                return 0
        at += 1
    return at


cdef inline size_t read_fields(reader_t *r, const uint8_t *h, size_t at, size_t n, uint64_t base) noexcept nogil:
    """`field_lines`, within the limit."""
    cdef size_t stop = field_lines(r, h, at, at + min(n - at, <size_t> r.room), base)
    if r.state == AT_FAILED:
        return 0
    r.room -= <uint32_t> (stop - at)
    if stop < n and r.state <= AT_FIELDS_LF:
        return fail(r, HEAD_TOO_LARGE, base + stop)
    return stop


cdef inline int judge_head(reader_t *r, const uint8_t *h, size_t size) noexcept nogil:
    """How the body is framed (RFC 9112, 6.3)."""
    r.left = 0
    if not r.response:
        if r.minor == 1 and not r.has_host:
            return fail(r, NO_HOST, r.start + size - 1)
        if r.target_at == 8 and is_word(h, b"CONNECT", 7):
            r.close = True  # what would follow is not for this reader
    elif r.status == 101:
        return fail(r, SWITCHED_UNASKED, r.start + 9)
    elif r.status < 200:
        if r.interim == MOST_INTERIM:
            return fail(r, TOO_MANY_INTERIM, r.start + 9)
        r.interim += 1
        r.state = AT_IDLE
        return 0
    elif (r.status == 204 or r.status == 304 or r.asked == ASKED_HEAD
            or r.asked == ASKED_CONNECT and r.status < 300):
        r.state = AT_ENDING
        return 0
    if r.chunked:
        r.state = AT_CHUNK_SIZE
        r.digits = 0
    elif r.has_length:
        if r.length > r.limits.body:
            return fail(r, BODY_TOO_LARGE, r.start + r.length_at)
        r.left = r.length
        r.state = AT_LENGTH_BODY if r.left else AT_ENDING
    else:
        r.state = AT_CLOSE_BODY if r.response else AT_ENDING
        r.close |= r.response
    return 0


cdef inline void describe(const reader_t *r, const uint8_t *h, uint32_t size, head_t *head) noexcept nogil:
    memset(head, 0, sizeof(head_t))
    if r.response:
        head.status = r.status
        head.reason = h + REASON_AT
        head.reason_len = r.fields_at - 2 - REASON_AT
    else:
        head.method = h
        head.method_len = r.target_at - 1
        head.target = h + r.target_at
        head.target_len = r.version_at - 1 - r.target_at
    head.minor = r.minor
    head.fields = h + r.fields_at
    head.fields_len = size - 2 - r.fields_at


cdef inline bint hold(reader_t *r, const uint8_t *p, size_t n) noexcept nogil:
    """Keep p[:n], of an incomplete head; its memory grows with what came, and never beyond the limits."""
    cdef size_t want = r.held_len + n
    cdef uint8_t *grown
    if want > r.held_cap:
        want = max(want, min(2 * <size_t> r.held_cap, <size_t> r.limits.line + r.limits.head + 1))
        grown = <uint8_t *> PyMem_RawRealloc(r.held, want)
        if grown == NULL:
            fail(r, NO_MEMORY, r.offset)
            return False
        r.held = grown
        r.held_cap = <uint32_t> want
    memcpy(r.held + r.held_len, p, n)
    r.held_len += <uint32_t> n
    return True


cdef inline size_t read_head(reader_t *r, const uint8_t *p, size_t n, event_t *event) noexcept nogil:
    """How much of p[:n] belongs to the head; when that is complete, the event holds it."""
    cdef size_t skipped = 0, at = 0, end, had, stop
    cdef const uint8_t *h
    if r.state < AT_METHOD:
        skipped = before(r, p, n)
        if r.state < AT_METHOD or r.state == AT_FAILED:
            return skipped
    h = p + skipped
    end = n - skipped
    had = r.held_len
    if had:
        if not hold(r, h, min(n, <size_t> r.limits.line + r.limits.head + 1 - had)):
            return 0
        h = r.held
        at = had
        end = r.held_len
    if r.state < AT_FIELD:
        stop = start_line(r, h, at, at + min(end - at, <size_t> r.room))
        if r.state < AT_FIELD:
            r.room -= <uint32_t> (stop - at)
            if stop < end:
                return fail(r, METHOD_TOO_LONG if r.state == AT_METHOD else LINE_TOO_LONG, r.start + stop)
        at = stop
    if AT_FIELD <= r.state < AT_HEAD_DONE:
        at = read_fields(r, h, at, end, r.start)
    if r.state == AT_FAILED:
        return 0
    if r.state < AT_HEAD_DONE:
        if not had:
            hold(r, h, end)
        return skipped + end - had
    judge_head(r, h, at)
    if r.state == AT_IDLE:  # an interim response: nobody hears of it
        tunnel_free(r)
    elif r.state != AT_FAILED:
        event.type = EVENT_HEAD
        describe(r, h, <uint32_t> at, &event.head)
    return skipped + at - had
