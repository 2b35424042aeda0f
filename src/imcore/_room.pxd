# The room's C interface: those who hear the same.

from libc.stdint cimport uint32_t

from ._codec cimport frame_t
from ._hub cimport Gatherer, Hub
from ._link cimport Link
from ._output cimport chunk_t


cdef class Room(Gatherer):
    cdef readonly str name
    cdef public object onward           # told what members say, if they may be elsewhere too; None: they are not
    cdef bytes route
    cdef Hub hub
    cdef void **members                 # links, borrowed: each leaves when it ends
    cdef uint32_t members_len, members_cap
    cdef chunk_t *open                  # this batch's messages, encoded once
    cdef uint32_t open_count

    # `whole`: the chunk that starts with this very frame and holds nothing else, to be shared; or NULL.
    cdef int add(self, const frame_t *frame, chunk_t *whole) except -1
    cdef int said(self, const frame_t *frame, chunk_t *whole) except -1     # by a member: `add`, and `onward` is told
    cdef void drop_member(self, uint32_t place) noexcept    # then `emptied`
    cdef void emptied(self) noexcept
