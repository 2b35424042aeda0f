# The HTTP/1.1 message reader at C level (wire: "The HTTP tunnel"): a struct and one step. `tunnel_step` reads the
# stream's next bytes up to the next event and hands out borrowed memory: a head until the next step, a body's bytes as
# long as the caller keeps them. The loop of an owner, at each read, until there is no event: an end needs no byte.
#
#     while True:
#         used = tunnel_step(&reader, p, n, &event)
#         if used < 0: ...                                  # tunnel_error(&reader) tells what, where, and the status
#         p += used; n -= used
#         if event.type == EVENT_DATA: link.received(event.data, event.size)
#         elif event.type == EVENT_NONE: break

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from ._http cimport FIELD, HTAB, SETS, SP, TOKEN, run
from ._link cimport Link

cdef enum part_t:       # what is being read: each has a deadline of its own
    PART_IDLE           # no byte of a message yet
    PART_LINE           # the request line or status line
    PART_HEAD           # the fields
    PART_BODY
    PART_TRAILERS
    PART_OVER           # nothing more may come
    PART_SWITCHED       # what follows is not HTTP: a CONNECT was granted

cdef enum event_type_t:
    EVENT_NONE          # more bytes are needed
    EVENT_HEAD
    EVENT_DATA
    EVENT_END

cdef enum fault_t:      # why reading stopped; negative, so that none looks like a size
    BAD_METHOD = -1
    METHOD_TOO_LONG = -2
    LINE_TOO_LONG = -3
    BAD_TARGET = -4
    BAD_VERSION = -5
    OTHER_VERSION = -6
    BAD_STATUS = -7
    BAD_REASON = -8
    BARE_CR = -9
    BARE_LF = -10
    BAD_NAME = -11
    FOLDED = -12
    BAD_VALUE = -13
    TOO_MANY_FIELDS = -14
    HEAD_TOO_LARGE = -15
    NO_HOST = -16
    TWO_HOSTS = -17
    BAD_HOST = -18
    BAD_LENGTH = -19
    TWO_LENGTHS = -20
    LENGTH_AND_CODING = -21
    BAD_CODING = -22
    OTHER_CODINGS = -23
    TWO_CODINGS = -24
    CODING_IN_1_0 = -25
    BAD_CONNECTION = -26
    BODY_TOO_LARGE = -27
    BAD_CHUNK_SIZE = -28
    BAD_EXTENSION = -29
    EXTENSIONS_TOO_LONG = -30
    BAD_CHUNK_END = -31
    UNASKED = -32
    SWITCHED_UNASKED = -33
    TOO_MANY_INTERIM = -34
    AFTER_CLOSE = -35
    EARLY_END = -36
    NO_MEMORY = -37

cdef enum asked_t:      # by the request that the next response answers
    ASKED_NOTHING
    ASKED_BODY
    ASKED_HEAD
    ASKED_CONNECT


cdef struct limits_t:
    uint32_t line           # bytes of the request line or status line, with its CRLF
    uint32_t head           # bytes of all fields, with the empty line; of the trailers again
    uint32_t fields         # how many; of the trailers again
    uint32_t extension      # bytes of the extensions of one chunk
    uint32_t extensions     # and of all chunks of a message
    uint64_t body           # bytes


cdef struct reader_t:       # to be zeroed, but for `limits` and `response`; given back by `tunnel_free`
    limits_t limits
    uint64_t offset         # in the stream, of the next byte to be read
    uint64_t start          # of the message's first byte
    uint64_t fault_at
    uint64_t length         # what Content-Length says, or one more than the limit of limits
    uint64_t left           # bytes of the body, or of the chunk, that are still to come
    uint64_t body           # bytes of the body that were handed out
    uint8_t *held           # a head that came in pieces
    uint32_t held_len
    uint32_t held_cap
    uint32_t room           # bytes that the line or the fields may still take
    uint32_t count          # of fields
    uint32_t target_at      # in the head, like the rest of these
    uint32_t version_at
    uint32_t fields_at
    uint32_t name_at
    uint32_t value_at       # behind the colon
    uint32_t length_at
    uint32_t extension      # bytes of this chunk's extensions
    uint32_t extensions     # and of all
    uint16_t status
    uint8_t state
    int fault
    uint8_t digits          # of the chunk size
    uint8_t interim         # responses 1xx before this one
    uint8_t minor           # the version is 1.minor
    uint8_t asked
    uint8_t response        # which of the two is read
    uint8_t close           # this message is the connection's last
    uint8_t has_host
    uint8_t has_length
    uint8_t chunked
    uint8_t trailers        # the fields that are being read stand behind the body


# Borrowed. From `method` to the end of `fields` it is one run: the head as it came, less the empty line.
cdef struct head_t:
    const uint8_t *method   # NULL in a response
    const uint8_t *target
    const uint8_t *reason   # NULL in a request
    const uint8_t *fields   # whole lines, for `next_field`
    uint32_t method_len
    uint32_t target_len
    uint32_t reason_len
    uint32_t fields_len
    uint16_t status
    uint8_t minor


cdef struct event_t:
    event_type_t type
    bint keep_alive         # END: another message may follow on this connection
    const uint8_t *data     # DATA: borrowed from what was given to the step
    size_t size
    head_t head             # HEAD


cdef struct field_t:
    const uint8_t *name     # in the case in which it came
    const uint8_t *value    # without the space around it
    uint32_t name_len
    uint32_t value_len


# How many of p[:n] were read, up to and with the event; or the fault that was met, at every further step.
cdef int64_t tunnel_step(reader_t *r, const uint8_t *p, size_t n, event_t *event) noexcept nogil

# The stream is over, and all of it was stepped through: 0, with the END of a body that only the close ends, or a fault.
cdef int64_t tunnel_end(reader_t *r, event_t *event) noexcept nogil

# Before each response: what was asked for. Not before the last one's END.
cdef void tunnel_ask(reader_t *r, const uint8_t *method, size_t n) noexcept nogil

cdef void tunnel_free(reader_t *r) noexcept nogil
cdef object tunnel_error(const reader_t *r)                     # a new TunnelError for the fault that was met


# The next field of a head; False behind the last. Start with `at` 0. Only for an event's fields: they were checked.
cdef inline bint next_field(const head_t *head, uint32_t *at, field_t *field) noexcept nogil:
    cdef const uint8_t *p = head.fields
    cdef size_t i = at[0], end
    if i >= head.fields_len:
        return False
    field.name = p + i
    end = run(p, i, head.fields_len, TOKEN)
    field.name_len = <uint32_t> (end - i)
    i = end + 1
    end = run(p, i, head.fields_len, FIELD)
    at[0] = <uint32_t> end + 2
    while i < end and (p[i] == SP or p[i] == HTAB):
        i += 1
    while i < end and (p[end - 1] == SP or p[end - 1] == HTAB):
        end -= 1
    field.value = p + i
    field.value_len = <uint32_t> (end - i)
    return True


cdef class Reader:
    cdef reader_t reader
    cdef Py_buffer source   # what was fed last, borrowed
    cdef Py_ssize_t left    # how much of its end was not read yet
    cdef bint ended
    cdef bint busy          # others' code may run, which may not have it give back what it was fed
    cdef public Link link   # where a body's bytes go at once, as they lie; None: they are events

    cdef int idle(self) except -1
    cdef bytes gathered(self, const uint8_t *p, const event_t *first)
    cdef void let_go(self) noexcept


cdef class RequestHead:
    cdef readonly bytes method
    cdef readonly bytes target
    cdef readonly bytes version
    cdef readonly list headers


cdef class ResponseHead:
    cdef readonly uint16_t status
    cdef readonly bytes reason
    cdef readonly bytes version
    cdef readonly list headers


cdef class Data:
    cdef readonly bytes data


cdef class End:
    cdef readonly bint keep_alive


cdef class RequestReader(Reader):
    pass


cdef class ResponseReader(Reader):
    pass
