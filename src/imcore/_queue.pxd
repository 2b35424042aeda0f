# Links that wait for their turn to send, in the order in which they began to.

from cpython.mem cimport PyMem_Realloc
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t
from libc.string cimport memmove


cdef struct queue_t:
    void **links        # owned
    uint32_t first
    uint32_t end
    uint32_t cap


# To the end; the memory grows with what waits at a time.
cdef inline int queue_push(queue_t *queue, object link) except -1:
    cdef void *grown
    cdef uint32_t cap
    if queue.end == queue.cap:
        if queue.first > queue.cap // 2:
            memmove(queue.links, queue.links + queue.first, (queue.end - queue.first) * sizeof(void *))
            queue.end -= queue.first
            queue.first = 0
        else:
            cap = max(queue.cap * 2, <uint32_t> 64)
            grown = PyMem_Realloc(queue.links, cap * sizeof(void *))
            if grown == NULL:
                raise MemoryError
            queue.links = <void **> grown
            queue.cap = cap
    Py_INCREF(link)
    queue.links[queue.end] = <void *> link
    queue.end += 1
    return 0
