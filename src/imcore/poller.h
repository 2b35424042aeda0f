/* What the link asks of the kernel. Linux only; elsewhere `poller_open` fails, and links ride on asyncio's transports. */
#ifndef IMCORE_POLLER_H
#define IMCORE_POLLER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "_output_types.h"

typedef struct { int fd; int readable; int writable; int broken; } imcore_ready;

enum { IMCORE_ADD = 1, IMCORE_CHANGE = 2 };

static inline uint64_t imcore_clock_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

/* One send for as many segments as one call may take; the bytes sent, or -1 with errno. */
static inline ssize_t imcore_send(int fd, const imcore_output *out) {
    enum { MOST = 64 };
    const imcore_segment *seg = out->segs + out->first;
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
    if (out->count == 1)
        return send(fd, seg->chunk->data + seg->start, seg->end - seg->start, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct iovec parts[MOST];
    struct msghdr message = {.msg_iov = parts};
    int n = out->count < MOST ? (int) out->count : MOST;
    for (int i = 0; i < n; i++)
        parts[i] = (struct iovec) {seg[i].chunk->data + seg[i].start, seg[i].end - seg[i].start};
    message.msg_iovlen = n;
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline void imcore_nodelay(int fd) {
    int one = 1;
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on what is not TCP: no harm */
}

#ifdef __linux__
#include <sys/epoll.h>

static inline int poller_open(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int poller_set(int poller, int how, int fd, int in, int out) {
    struct epoll_event event = {.events = (in ? EPOLLIN : 0) | (out ? EPOLLOUT : 0), .data.fd = fd};
    return epoll_ctl(poller, how == IMCORE_ADD ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
}

static inline int poller_drop(int poller, int fd) { return epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL); }

/* What is ready now, without waiting. */
static inline int poller_take(int poller, imcore_ready *ready, int most) {
    struct epoll_event events[256];
    int n = epoll_wait(poller, events, most < 256 ? most : 256, 0);
    for (int i = 0; i < n; i++)
        ready[i] = (imcore_ready) {events[i].data.fd, (events[i].events & EPOLLIN) != 0, (events[i].events & EPOLLOUT) != 0,
                                   (events[i].events & (EPOLLERR | EPOLLHUP)) != 0};
    return n;
}

static inline int imcore_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

#else

static inline int poller_open(void) { errno = ENOSYS; return -1; }
static inline int poller_set(int poller, int how, int fd, int in, int out) { errno = ENOSYS; return -1; }
static inline int poller_drop(int poller, int fd) { errno = ENOSYS; return -1; }
static inline int poller_take(int poller, imcore_ready *ready, int most) { errno = ENOSYS; return -1; }
static inline int imcore_accept(int listener) { errno = ENOSYS; return -1; }

#endif
#endif
