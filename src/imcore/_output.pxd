# What a link still has to send: segments of shared, reference-counted chunks. A frame for one link is written into the
# link's own last chunk; a frame for many is written once, and every receiver's segment points at it.

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

cdef extern from "_output_types.h":
    ctypedef struct chunk_t "imcore_chunk":
        uint32_t refs
        uint32_t messages   # of a room's batch, into which no more is written; 0 = a link's own
        size_t cap
        size_t len
        uint8_t data[0]
    ctypedef struct segment_t "imcore_segment":
        chunk_t *chunk
        size_t start        # offsets into the chunk
        size_t end
    ctypedef struct output_t "imcore_output":
        segment_t *segs
        uint32_t first
        uint32_t count
        uint32_t cap
        size_t bytes        # in all segments
        segment_t own[2]    # enough for most, so that an output is one allocation

cdef enum:
    SMALL_CHUNK = 448       # with its header within malloc's fast bins


cdef inline chunk_t *chunk_new(size_t cap) noexcept nogil:
    cdef chunk_t *chunk = <chunk_t *> malloc(sizeof(chunk_t) + cap)
    if chunk != NULL:
        chunk.refs = 1
        chunk.messages = 0
        chunk.cap = cap
        chunk.len = 0
    return chunk


cdef inline void chunk_drop(chunk_t *chunk) noexcept nogil:
    chunk.refs -= 1
    if chunk.refs == 0:
        free(chunk)


cdef inline output_t *output_new() noexcept nogil:
    cdef output_t *out = <output_t *> malloc(sizeof(output_t))
    if out != NULL:
        out.segs = out.own
        out.first = out.count = 0
        out.cap = 2
        out.bytes = 0
    return out


cdef inline void output_free(output_t *out) noexcept nogil:
    cdef uint32_t i
    for i in range(out.first, out.first + out.count):
        chunk_drop(out.segs[i].chunk)
    if out.segs != out.own:
        free(out.segs)
    free(out)


# One more segment at the end, its chunk's reference taken over; -1 when there is no memory.
cdef inline int output_push(output_t *out, chunk_t *chunk, size_t start, size_t end) noexcept nogil:
    cdef segment_t *segs
    cdef uint32_t cap
    if out.first + out.count == out.cap:
        if out.first > out.cap // 4:
            memmove(out.segs, out.segs + out.first, out.count * sizeof(segment_t))
        else:
            cap = out.cap * 2
            segs = <segment_t *> malloc(cap * sizeof(segment_t))
            if segs == NULL:
                return -1
            memcpy(segs, out.segs + out.first, out.count * sizeof(segment_t))
            if out.segs != out.own:
                free(out.segs)
            out.segs = segs
            out.cap = cap
        out.first = 0
    segs = out.segs + out.first + out.count
    segs.chunk = chunk
    segs.start = start
    segs.end = end
    out.count += 1
    out.bytes += end - start
    return 0


# Room for n bytes at the end, counted as queued; the caller writes them. NULL when there is no memory.
cdef inline uint8_t *output_reserve(output_t *out, size_t n) noexcept nogil:
    cdef segment_t *last
    cdef chunk_t *chunk
    cdef size_t cap = SMALL_CHUNK
    if out.count:
        last = out.segs + out.first + out.count - 1
        chunk = last.chunk
        if not chunk.messages and chunk.refs == 1 and last.end == chunk.len and chunk.cap - chunk.len >= n:
            chunk.len += n
            last.end += n
            out.bytes += n
            return chunk.data + chunk.len - n
        if not chunk.messages:  # its own, and full: the more it had to say, the bigger the next
            cap = min(chunk.cap * 4, <size_t> 65536)
    chunk = chunk_new(max(n, cap))
    if chunk == NULL:
        return NULL
    chunk.len = n
    if output_push(out, chunk, 0, n) < 0:
        free(chunk)
        return NULL
    return chunk.data


# All of it, in one piece; `p` has room for it.
cdef inline void output_copy(const output_t *out, uint8_t *p) noexcept nogil:
    cdef const segment_t *seg
    cdef uint32_t i
    for i in range(out.first, out.first + out.count):
        seg = out.segs + i
        memcpy(p, seg.chunk.data + seg.start, seg.end - seg.start)
        p += seg.end - seg.start


# Let go of n bytes or more of rooms' batches, the oldest first and none that has begun to go out: how many messages
# that were; 0 when there are not so many bytes of them, and nothing is done.
cdef inline uint32_t output_thin(output_t *out, size_t n) noexcept nogil:
    cdef segment_t *seg
    cdef size_t bytes = 0
    cdef uint32_t i = out.first, end = out.first + out.count, kept, messages = 0
    while bytes < n:
        if i == end:
            return 0
        seg = out.segs + i
        if seg.chunk.messages and not seg.start:
            bytes += seg.end
        i += 1
    kept = i
    while i > out.first:  # what stays of these moves up, in its order
        i -= 1
        seg = out.segs + i
        if seg.chunk.messages and not seg.start:
            messages += seg.chunk.messages
            chunk_drop(seg.chunk)
        else:
            kept -= 1
            out.segs[kept] = seg[0]
    out.count = end - kept
    out.first = kept
    out.bytes -= bytes
    return messages


# The first n bytes have gone out.
cdef inline void output_sent(output_t *out, size_t n) noexcept nogil:
    cdef segment_t *seg
    out.bytes -= n
    while n:
        seg = out.segs + out.first
        if n < seg.end - seg.start:
            seg.start += n
            return
        n -= seg.end - seg.start
        chunk_drop(seg.chunk)
        out.first += 1
        out.count -= 1
