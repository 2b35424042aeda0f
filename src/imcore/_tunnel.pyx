# cython: annotation_typing=False
# Annotations tell people; checks are our own, since Cython's refuse subclasses and every buffer but `bytes`.
"""The HTTP/1.1 message reader of the tunnel (wire: "The HTTP tunnel"): bytes to heads, bodies and ends, from any cut.

It reads RFC 9112 to the letter, and takes the strict side wherever that leaves a choice. What is wrong is a
`TunnelError` at the byte that shows it, and nothing behind it is ever read. It keeps no byte but those of an incomplete
head, knows no clock, and gives no meaning to a method, a target or a field that does not frame the message.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.mem cimport PyMem_RawFree
from cpython.number cimport PyNumber_Index
from libc.string cimport memcpy, memset

from ._http cimport is_word
from ._tunnel_head cimport *
from ._tunnel_step cimport end_message, part_of, step, taken_of

from .errors import TunnelError

cdef uint64_t MAX_BODY = <uint64_t> 1 << 48     # no limit may be set above: 16 times as much still fits an integer
cdef uint64_t MAX_HEAD = 1 << 24

cdef enum:
    MOST_PIECES = 64    # of a body in one `Data`

cdef dict FAULTS = {
    BAD_METHOD: (400, "expected a method, of token characters, and a space"),
    METHOD_TOO_LONG: (501, "expected a method that ends within the line's {line} bytes"),
    LINE_TOO_LONG: (414, "expected a first line of at most {line} bytes"),
    BAD_TARGET: (400, "expected a target in the form that the method allows, of a URI's characters, and a space"),
    BAD_VERSION: (400, "expected HTTP/1.1 or HTTP/1.0"),
    OTHER_VERSION: (505, "expected HTTP/1.1 or HTTP/1.0, got another version"),
    BAD_STATUS: (400, "expected a space, a status from 100 to 599 and a space"),
    BAD_REASON: (400, "expected a reason without control characters"),
    BARE_CR: (400, "expected a line feed behind the carriage return"),
    BARE_LF: (400, "expected a carriage return before the line feed"),
    BAD_NAME: (400, "expected a field's name, of token characters, and a colon right behind it"),
    FOLDED: (400, "expected a field or the empty line, got a line that starts with space"),
    BAD_VALUE: (400, "expected a field's value without control characters"),
    TOO_MANY_FIELDS: (431, "expected at most {fields} fields"),
    HEAD_TOO_LARGE: (431, "expected fields of at most {head} bytes in all"),
    NO_HOST: (400, "expected a Host field"),
    TWO_HOSTS: (400, "expected one Host field, got another"),
    BAD_HOST: (400, "expected a host, and a colon and a port or nothing, in Host"),
    BAD_LENGTH: (400, "expected digits in Content-Length"),
    TWO_LENGTHS: (400, "expected one Content-Length field, got another"),
    LENGTH_AND_CODING: (400, "expected Content-Length or Transfer-Encoding, got both"),
    BAD_CODING: (400, "expected Transfer-Encoding to be chunked"),
    OTHER_CODINGS: (501, "expected Transfer-Encoding to be chunked alone"),
    TWO_CODINGS: (400, "expected one Transfer-Encoding field, got another"),
    CODING_IN_1_0: (400, "expected no Transfer-Encoding in HTTP/1.0"),
    BAD_CONNECTION: (400, "expected a list of tokens in Connection"),
    BODY_TOO_LARGE: (413, "expected a body of at most {body} bytes"),
    BAD_CHUNK_SIZE: (400, "expected a chunk size of 1 to 16 hexadecimal digits, and an extension or the line's end"),
    BAD_EXTENSION: (400, "expected a chunk extension: a semicolon, a token, and an equals sign and a value or nothing"),
    EXTENSIONS_TOO_LONG: (413, "expected chunk extensions of at most {extension} bytes each and {extensions} in all"),
    BAD_CHUNK_END: (400, "expected the line's end behind a chunk's bytes"),
    UNASKED: (400, "expected no response before another request"),
    SWITCHED_UNASKED: (400, "expected a response, got a switch to a protocol that was not asked for"),
    TOO_MANY_INTERIM: (400, f"expected at most {MOST_INTERIM} interim responses"),
    AFTER_CLOSE: (400, "expected nothing behind the connection's last message"),
}

cdef tuple PARTS = ("idle", "line", "head", "body", "trailers", "over", "switched")


cdef object tunnel_error(const reader_t *r):
    if r.fault == NO_MEMORY:
        return MemoryError()
    if r.fault == EARLY_END:
        return TunnelError("expected the rest of a message, but the stream ended", r.fault_at, 400)
    status, text = FAULTS[r.fault]
    limits = r.limits
    return TunnelError(text.format(**limits), r.fault_at, status)


cdef void tunnel_free(reader_t *r) noexcept nogil:
    PyMem_RawFree(r.held)
    r.held = NULL
    r.held_len = r.held_cap = 0


cdef void tunnel_ask(reader_t *r, const uint8_t *method, size_t n) noexcept nogil:
    r.interim = 0
    if n == 4 and is_word(method, b"HEAD", 4):
        r.asked = ASKED_HEAD
    elif n == 7 and is_word(method, b"CONNECT", 7):
        r.asked = ASKED_CONNECT
    else:
        r.asked = ASKED_BODY


cdef int64_t tunnel_step(reader_t *r, const uint8_t *p, size_t n, event_t *event) noexcept nogil:
    return step(r, p, n, event, False)


cdef int64_t tunnel_end(reader_t *r, event_t *event) noexcept nogil:
    event.type = EVENT_NONE
    if r.state == AT_CLOSE_BODY:
        end_message(r, event)
    elif r.state == AT_IDLE and not r.asked or r.state == AT_SKIPPED:
        r.state = AT_OVER
    elif r.state < AT_OVER:
        fail(r, EARLY_END, r.offset)
        tunnel_free(r)
    return r.fault


def scan(data: bytes, max_body: int = 1 << 20) -> tuple[int, int]:
    """How many whole requests `data` starts with, and how many bytes their bodies have; nothing is built.

    `data` is bytes, or any contiguous buffer. Raises `TunnelError`.
    """
    cdef reader_t reader
    cdef event_t event
    cdef int64_t used
    cdef size_t at = 0, count = 0, bytes_of_body = 0, of_this = 0
    cdef Py_buffer source
    memset(&reader, 0, sizeof(reader_t))
    set_limits(&reader.limits, 8192, 64, 16384, max_body, 256, 4096)
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    while True:
        used = tunnel_step(&reader, <const uint8_t *> source.buf + at, source.len - at, &event)
        if used < 0 or event.type == EVENT_NONE:
            break
        at += <size_t> used
        if event.type == EVENT_DATA:
            of_this += event.size
        elif event.type == EVENT_END:
            count += 1
            bytes_of_body += of_this
            of_this = 0
    PyBuffer_Release(&source)
    tunnel_free(&reader)
    if used < 0:
        raise tunnel_error(&reader)
    return count, bytes_of_body


cdef uint64_t limit(object value, str name, uint64_t most) except? 0xFFFFFFFFFFFFFFFF:
    cdef object number = PyNumber_Index(value)
    if not 0 <= number <= most:
        raise ValueError(f"{name}: expected 0 to {most}, got {number}")
    return PyLong_AsUnsignedLongLong(number)


cdef int set_limits(
    limits_t *limits, object line, object fields, object head, object most, object extension, object extensions
) except -1:
    limits.line = <uint32_t> limit(line, "max_line, in bytes", MAX_HEAD)
    limits.fields = <uint32_t> limit(fields, "max_fields", MAX_HEAD)
    limits.head = <uint32_t> limit(head, "max_head, in bytes", MAX_HEAD)
    limits.body = limit(most, "max_body, in bytes", MAX_BODY)
    limits.extension = <uint32_t> limit(extension, "max_extension, in bytes", MAX_HEAD)
    limits.extensions = <uint32_t> limit(extensions, "max_extensions, in bytes", MAX_HEAD)
    return 0


@cython.freelist(64)
@cython.final
cdef class RequestHead:
    """A request's line and fields: method and target as they came, version b"1.1" or b"1.0", and the headers in their
    order, names in lower case, values without the space around them."""

    def __init__(self, method: bytes, target: bytes, version: bytes, headers: list):
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestHead) and repr(self) == repr(other)

    def __repr__(self) -> str:
        return f"RequestHead({self.method!r}, {self.target!r}, {self.version!r}, {self.headers!r})"


@cython.freelist(64)
@cython.final
cdef class ResponseHead:
    """A response's line and fields: status 200 to 599, reason as it came, version and headers as in `RequestHead`."""

    def __init__(self, status: int, reason: bytes, version: bytes, headers: list):
        self.status = status
        self.reason = reason
        self.version = version
        self.headers = headers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResponseHead) and repr(self) == repr(other)

    def __repr__(self) -> str:
        return f"ResponseHead({self.status!r}, {self.reason!r}, {self.version!r}, {self.headers!r})"


@cython.freelist(64)
@cython.final
cdef class Data:
    """Bytes of a body, at least one; where they are cut means nothing."""

    def __init__(self, data: bytes):
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and self.data == (<Data> other).data

    def __repr__(self) -> str:
        return f"Data({self.data!r})"


@cython.final
cdef class End:
    """The message is whole. keep_alive: another one may follow on this connection."""

    def __init__(self, keep_alive: bool):
        self.keep_alive = keep_alive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, End) and self.keep_alive == (<End> other).keep_alive

    def __repr__(self) -> str:
        return f"End(keep_alive={bool(self.keep_alive)})"


cdef End LAST = End(False)
cdef End ANOTHER = End(True)


cdef bytes lowered(const uint8_t *p, uint32_t n):
    cdef bytes name = PyBytes_FromStringAndSize(NULL, n)
    cdef char *to = PyBytes_AS_STRING(name)
    cdef uint32_t i
    for i in range(n):
        to[i] = p[i] | (0x20 if c"A" <= p[i] <= c"Z" else 0)
    return name


cdef object head_from(const head_t *head):
    cdef list headers = []
    cdef field_t field
    cdef uint32_t at = 0
    cdef RequestHead request
    cdef ResponseHead response
    while next_field(head, &at, &field):
        headers.append((
            lowered(field.name, field.name_len),
            PyBytes_FromStringAndSize(<const char *> field.value, field.value_len),
        ))
    if head.method == NULL:
        response = ResponseHead.__new__(ResponseHead)
        response.status = head.status
        response.reason = PyBytes_FromStringAndSize(<const char *> head.reason, head.reason_len)
        response.version = b"1.1" if head.minor else b"1.0"
        response.headers = headers
        return response
    request = RequestHead.__new__(RequestHead)
    request.method = PyBytes_FromStringAndSize(<const char *> head.method, head.method_len)
    request.target = PyBytes_FromStringAndSize(<const char *> head.target, head.target_len)
    request.version = b"1.1" if head.minor else b"1.0"
    request.headers = headers
    return request


@cython.no_gc_clear  # a buffer that was borrowed is given back, never just forgotten
cdef class Reader:
    """What both readers are: bytes in, events out, from any cut: `for event in reader.feed(data)`.

    Limits, in bytes but for the second: max_line of the first line, with its end; max_fields, the number of fields;
    max_head of all of them together; both again of the trailers; max_body of a body, to be raised or lowered at any
    time; max_extension of one chunk's extensions, and max_extensions of those of a whole message.

    Iteration yields a head, its body's bytes in pieces, an `End`, and so on; it stops where more bytes are needed, or
    raises the `TunnelError` that stands in the way, at every further use. What was fed is borrowed until the iteration
    has come to its end; after that, at most one incomplete head is held. Where `link` is set, a body's bytes are no
    events: they go to that link at once, as they lie.
    """

    def __cinit__(self, *, max_line: int = 8192, max_fields: int = 64, max_head: int = 16384, max_body: int = 1 << 20,
                  max_extension: int = 256, max_extensions: int = 4096):
        set_limits(&self.reader.limits, max_line, max_fields, max_head, max_body, max_extension, max_extensions)
        self.reader.response = isinstance(self, ResponseReader)

    def __dealloc__(self):
        self.let_go()
        tunnel_free(&self.reader)

    @property
    def max_body(self) -> int:
        """The limit in force, in bytes."""
        return self.reader.limits.body

    @max_body.setter
    def max_body(self, value: int) -> None:
        self.reader.limits.body = limit(value, "max_body, in bytes", MAX_BODY)

    @property
    def part(self) -> str:
        """What is being read: "idle", "line", "head", "body", "trailers", "over" (nothing follows), or "switched"."""
        return PARTS[part_of(&self.reader)]

    @property
    def taken(self) -> int:
        """Bytes of that part so far, for who watches its pace."""
        return taken_of(&self.reader)

    @property
    def body(self) -> int:
        """Bytes of the last message's body that were handed out."""
        return self.reader.body

    @property
    def buffered(self) -> int:
        """Bytes held or borrowed that no event was made of yet."""
        return self.reader.held_len + self.left

    @property
    def offset(self) -> int:
        """Where in the stream the next byte to be read stands."""
        return self.reader.offset

    def feed(self, data: bytes) -> Reader:
        """Take the stream's next bytes; returns the reader itself, to iterate over.

        `data` is bytes, or any contiguous buffer, which must not change until it has been iterated over. If the last
        iteration was left early, what it left comes first. Raises the `TunnelError` that was met before, and ValueError
        when the stream was said to be over, or is no longer HTTP. RuntimeError from within the reading of what was fed.
        """
        cdef Py_buffer fed
        cdef bytes joined
        self.idle()
        if self.reader.fault:
            raise tunnel_error(&self.reader)
        if self.ended or self.reader.state == AT_SWITCHED:
            raise ValueError("expected no more bytes: the stream has ended, or is no longer HTTP")
        PyObject_GetBuffer(data, &fed, PyBUF_SIMPLE)
        if self.left:
            try:
                joined = PyBytes_FromStringAndSize(<char *> self.source.buf + (self.source.len - self.left), self.left)
                joined += PyBytes_FromStringAndSize(<char *> fed.buf, fed.len)
            finally:
                PyBuffer_Release(&fed)
            PyObject_GetBuffer(joined, &fed, PyBUF_SIMPLE)
        self.let_go()
        self.source = fed
        self.left = fed.len
        if self.left == 0:
            self.let_go()
        return self

    def end(self) -> Reader:
        """The stream is over; returns the reader itself, to iterate over once more.

        That yields the `End` of a body that only the close ends, nothing between messages, or raises `TunnelError`.
        """
        if self.reader.fault:
            raise tunnel_error(&self.reader)
        self.ended = True
        return self

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> RequestHead | ResponseHead | Data | End:
        cdef event_t event
        cdef int64_t used
        cdef object found = None
        cdef const uint8_t *p = NULL
        cdef Data data
        cdef Link link = self.link  # held: within its own frame it may be taken from here, and be let go of by all
        self.idle()
        if self.left:
            p = <const uint8_t *> self.source.buf + (self.source.len - self.left)
        used = tunnel_step(&self.reader, p, self.left, &event)
        while used >= 0 and event.type == EVENT_DATA and link is not None:
            self.left -= used
            p += used
            self.busy = True
            try:
                link.arrived(event.data, event.size)
            finally:
                self.busy = False
            link = self.link
            used = tunnel_step(&self.reader, p, self.left, &event)
        if used >= 0:
            self.left -= used
            if event.type == EVENT_NONE and self.ended:
                used = tunnel_end(&self.reader, &event)
        if event.type == EVENT_HEAD:
            self.busy = True  # to make a head's list may run the collector, and so anybody's code
            try:
                found = head_from(&event.head)
            finally:
                self.busy = False
            tunnel_free(&self.reader)
        elif event.type == EVENT_DATA:
            data = Data.__new__(Data)
            if self.left and self.reader.chunked:
                data.data = self.gathered(p + used, &event)
            else:
                data.data = PyBytes_FromStringAndSize(<const char *> event.data, <Py_ssize_t> event.size)
            found = data
        elif event.type == EVENT_END:
            found = ANOTHER if event.keep_alive else LAST
        if self.left == 0 or used < 0:
            self.let_go()
        if used < 0:
            raise tunnel_error(&self.reader)
        if found is None:
            raise StopIteration
        return found

    cdef int idle(self) except -1:
        if self.busy:
            raise RuntimeError("expected to be used when the last event is there, not from within reading")
        return 0

    cdef bytes gathered(self, const uint8_t *p, const event_t *first):
        """A body's bytes, with those of the chunks that lie at p, in one object: an object a chunk costs more than the
        reading. What is wrong behind them is met at the next step."""
        cdef const uint8_t *pieces[MOST_PIECES]
        cdef size_t sizes[MOST_PIECES]
        cdef event_t event
        cdef size_t size = first.size, count = 1, i
        cdef int64_t used
        cdef bytes found
        cdef char *to
        pieces[0], sizes[0] = first.data, first.size
        while self.left and count < MOST_PIECES:
            used = step(&self.reader, p, self.left, &event, True)
            if used < 0:
                break
            p += used
            self.left -= used
            if event.type != EVENT_DATA:
                break
            pieces[count], sizes[count] = event.data, event.size
            size += event.size
            count += 1
        found = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> size)
        to = PyBytes_AS_STRING(found)
        for i in range(count):
            memcpy(to, pieces[i], sizes[i])
            to += sizes[i]
        return found

    cdef void let_go(self) noexcept:
        """Give back what was borrowed. The fields first: giving back may run code of the buffer's owner."""
        cdef Py_buffer used
        self.left = 0
        if <void *> self.source.obj == NULL:
            return
        used = self.source
        memset(&self.source, 0, sizeof(Py_buffer))
        PyBuffer_Release(&used)


@cython.final
cdef class RequestReader(Reader):
    """Reads requests, at the gateway (RFC 9112, 3). Behind a CONNECT, or the connection's last, none may come."""


@cython.final
cdef class ResponseReader(Reader):
    """Reads responses, at the client (RFC 9112, 4): each was asked for by `expect`. Interim ones are not told."""

    def expect(self, method: bytes) -> None:
        """A request with this method is about to go out: its response may come. One at a time.

        Raises `TunnelError` if a byte of it is there before it was asked for, ValueError before the last one's
        `End` and behind the connection's last one.
        """
        if self.reader.fault:
            raise tunnel_error(&self.reader)
        if self.reader.state != AT_IDLE or self.reader.asked or self.ended:
            raise ValueError("expected to be asked between two responses, on a connection that goes on")
        if self.left:
            next(self)
        tunnel_ask(&self.reader, method, len(method))

    def rest(self) -> bytes:
        """The bytes that were fed behind the head that granted a CONNECT: no longer HTTP. They are handed over once."""
        if self.reader.state != AT_SWITCHED:
            raise ValueError("expected a CONNECT that was granted")
        cdef char *start = <char *> self.source.buf + (self.source.len - self.left)
        cdef bytes found = PyBytes_FromStringAndSize(start, self.left)
        self.let_go()
        return found
