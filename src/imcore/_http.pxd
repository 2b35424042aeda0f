# HTTP's characters and its small grammars (RFC 9110, RFC 9112, RFC 3986), inline: on the caller's memory, without a
# copy, never past `n`. Which of them a message needs, and when, is `_tunnel`'s business.

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef extern from *:
    """
    /* For each byte the sets it is in, or'ed; tests/test_tunnel_grammar.py compares them with their definitions. */
    static const unsigned char imcore_http_sets[256] = {
          0,   0,   0,   0,   0,   0,   0,   0,   0,  36,   0,   0,   0,   0,   0,   0,
          0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
         36,  63,   4,  37,  63,  39,  63,  63,  62,  62,  63,  63,  62,  63,  63,  54,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255,  54,  62,  36,  62,  36,  54,
         54, 127, 127, 127, 127, 127, 127,  63,  63,  63,  63,  63,  63,  63,  63,  63,
         63,  63,  63,  63,  63,  63,  63,  63,  63,  63,  63,  38,   4,  38,  37,  63,
         37, 127, 127, 127, 127, 127, 127,  63,  63,  63,  63,  63,  63,  63,  63,  63,
         63,  63,  63,  63,  63,  63,  63,  63,  63,  63,  63,  36,  37,  36,  63,   0,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
         36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,  36,
    };
    """
    const uint8_t SETS "imcore_http_sets"[256]

cdef enum set_t:
    TOKEN = 1       # RFC 9110, 5.6.2: tchar
    TARGET = 2      # every byte of a URI, but no fragment: PATH, "%", "[", "]"
    FIELD = 4       # RFC 9110, 5.5: SP, HTAB, VCHAR, obs-text
    NAME = 8        # RFC 3986, 3.2.2: unreserved, sub-delims: a reg-name but for its "%"
    PATH = 16       # RFC 3986, 3.3 and 3.4: NAME, ":", "@", "/", "?": a path and a query but for their "%"
    QUOTED = 32     # RFC 9110, 5.6.4: qdtext
    HEXDIG = 64
    DIGIT = 128

cdef enum:
    HTAB = 0x09
    LF = 0x0A
    CR = 0x0D
    SP = 0x20

cdef enum coding_t:
    CHUNKED
    OTHER_CODING    # well formed and with chunked at its end, yet not chunked alone
    NO_CODING


cdef inline size_t run(const uint8_t *p, size_t at, size_t end, uint8_t kind) noexcept nogil:
    """Where the run of bytes of this kind ends that starts at p[at]."""
    while at < end and SETS[p[at]] & kind:
        at += 1
    return at


cdef inline bint same(const uint8_t *p, const char *lower, size_t n) noexcept nogil:
    """Whether p[:n], of which every byte is in TOKEN, is this word of letters and "-" in any case."""
    cdef size_t i
    for i in range(n):
        if p[i] | 0x20 != lower[i]:  # of TOKEN, only a letter becomes a letter so
            return False
    return True


cdef inline uint8_t hex_value(uint8_t c) noexcept nogil:
    return (c & 0x0F) if c <= 0x39 else (c & 0x0F) + 9


cdef inline size_t escaped_run(const uint8_t *p, size_t at, size_t end, uint8_t kind) noexcept nogil:
    """As `run`, and over "%" with two hexadecimal digits too (RFC 3986, 2.1)."""
    while True:
        at = run(p, at, end, kind)
        if end - at < 3 or p[at] != c"%" or not SETS[p[at + 1]] & SETS[p[at + 2]] & HEXDIG:
            return at
        at += 3


cdef inline bint is_word(const uint8_t *p, const char *word, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if p[i] != word[i]:
            return False
    return True


cdef inline size_t scheme_size(const uint8_t *p, size_t n) noexcept nogil:
    """The length of "http://" or "https://" at p, or 0."""
    cdef size_t at
    if n < 7 or not (SETS[p[0]] & SETS[p[1]] & SETS[p[2]] & SETS[p[3]] & TOKEN) or not same(p, b"http", 4):
        return 0
    at = 5 if p[4] | 0x20 == c"s" else 4
    return at + 3 if n - at >= 3 and is_word(p + at, b"://", 3) else 0


cdef inline int64_t authority_fault(const uint8_t *p, size_t n, bint with_port) noexcept nogil:
    """The first byte that keeps p[:n] from being host [":" port], or -1. The host may not be empty, nor the port
    `with_port`. Of an address in brackets only the characters are looked at: who dials it will read it."""
    cdef size_t at, begin
    cdef uint32_t port = 0
    if n and p[0] == c"[":
        at = 1
        while at < n and (SETS[p[at]] & HEXDIG or p[at] == c":" or p[at] == c"."):
            at += 1
        if at < 3 or at == n or p[at] != c"]":
            return at
        at += 1
    else:
        at = escaped_run(p, 0, n, NAME)
        if at == 0:
            return 0
    if at == n:
        return n if with_port else -1
    if p[at] != c":":
        return at
    at += 1
    begin = at
    while at < n:
        if not SETS[p[at]] & DIGIT:
            return at
        port = port * 10 + (p[at] - c"0")
        if port > 65535:
            return at
        at += 1
    return begin if with_port and port == 0 else -1


cdef inline int64_t target_fault(const uint8_t *method, size_t method_len, const uint8_t *p, size_t n) noexcept nogil:
    """The first byte that keeps p[:n] from being a target that this method may have (RFC 9112, 3.2), or -1."""
    cdef size_t at, begin
    cdef int64_t fault
    if method_len == 7 and is_word(method, b"CONNECT", 7):
        return authority_fault(p, n, True)
    if n == 0:
        return 0
    if p[0] == c"*":
        if n > 1:
            return 1
        return -1 if method_len == 7 and is_word(method, b"OPTIONS", 7) else 0
    if p[0] == c"/":
        begin = 0
    else:
        begin = scheme_size(p, n)
        if begin == 0:
            return 0
        at = begin
        while at < n and p[at] != c"/" and p[at] != c"?":
            at += 1
        fault = authority_fault(p + begin, at - begin, False)
        if fault >= 0:
            return <int64_t> begin + fault
        begin = at
    at = escaped_run(p, begin, n, PATH)
    return -1 if at == n else <int64_t> at


cdef inline bint next_element(const uint8_t *p, size_t n, size_t *at, size_t *begin, size_t *end) noexcept nogil:
    """The next element of a comma-separated list (RFC 9110, 5.6.1), without the space around it; False behind the last.
    Start with `at` 0. An empty list has one element, which is empty."""
    if at[0] > n:
        return False
    begin[0] = at[0]
    while at[0] < n and p[at[0]] != c",":
        at[0] += 1
    end[0] = at[0]
    at[0] += 1
    while begin[0] < end[0] and (p[begin[0]] == SP or p[begin[0]] == HTAB):
        begin[0] += 1
    while begin[0] < end[0] and (p[end[0] - 1] == SP or p[end[0] - 1] == HTAB):
        end[0] -= 1
    return True


cdef inline coding_t coding_of(const uint8_t *p, size_t n) noexcept nogil:
    """What a Transfer-Encoding asks for."""
    cdef size_t at = 0, begin = 0, end = 0
    cdef uint32_t count = 0
    cdef bint chunked = False
    while next_element(p, n, &at, &begin, &end):
        if chunked or begin == end or run(p, begin, end, TOKEN) < end:
            return NO_CODING
        count += 1
        chunked = end - begin == 7 and same(p + begin, b"chunked", 7)
    if not chunked:
        return NO_CODING
    return CHUNKED if count == 1 else OTHER_CODING


cdef inline int64_t connection_fault(const uint8_t *p, size_t n, bint *close) noexcept nogil:
    """The first byte that keeps p[:n] from being a list of tokens, or -1; sets `close` if "close" is one of them."""
    cdef size_t at = 0, begin = 0, end = 0, stop
    while next_element(p, n, &at, &begin, &end):
        stop = run(p, begin, end, TOKEN)
        if stop < end:
            return stop
        if end - begin == 5 and same(p + begin, b"close", 5):
            close[0] = True
    return -1
