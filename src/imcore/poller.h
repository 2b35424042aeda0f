/* What the link asks of the kernel. Linux only; elsewhere `poller_open` fails, and links ride on asyncio's transports. */
#ifndef IMCORE_POLLER_H
#define IMCORE_POLLER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "_output_types.h"

typedef struct { int fd; int readable; int writable; int broken; } imcore_ready;

enum { IMCORE_ADD = 1, IMCORE_CHANGE = 2 };

static inline uint64_t imcore_clock_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

static inline uint64_t imcore_clock_ms(void) { return imcore_clock_us() / 1000; }

/* One send for as many segments as one call may take; the bytes sent, or -errno. A call never takes 2 GiB. */
static inline int imcore_send(int fd, const imcore_output *out) {
    enum { MOST = 64 };
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
    const imcore_segment *seg = out->segs + out->first;
    struct iovec parts[MOST];
    struct msghdr message = {.msg_iov = parts};
    int n = out->count < MOST ? (int) out->count : MOST;
    ssize_t sent;
    for (int i = 0; n > 1 && i < n; i++)
        parts[i] = (struct iovec) {seg[i].chunk->data + seg[i].start, seg[i].end - seg[i].start};
    message.msg_iovlen = n;
    do {
        sent = n == 1 ? send(fd, seg->chunk->data + seg->start, seg->end - seg->start, MSG_NOSIGNAL | MSG_DONTWAIT)
                      : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : (int) sent;
}

/* At most n bytes; how many came, 0 at the end, or -errno. */
static inline ssize_t imcore_recv(int fd, void *p, size_t n) {
    ssize_t got = recv(fd, p, n, MSG_DONTWAIT);
    return got < 0 ? -errno : got;
}

/* Is the connection of this very descriptor broken now? What the poller said may be about one that had the same number. */
static inline int imcore_broken(int fd) {
    struct pollfd now = {.fd = fd, .events = 0};
    return poll(&now, 1, 0) > 0 && (now.revents & (POLLERR | POLLHUP)) != 0;
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

/* The next connection, or -errno. */
static inline int imcore_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

#else

static inline int poller_open(void) { errno = ENOSYS; return -1; }
static inline int poller_set(int poller, int how, int fd, int in, int out) { errno = ENOSYS; return -1; }
static inline int poller_drop(int poller, int fd) { errno = ENOSYS; return -1; }
static inline int poller_take(int poller, imcore_ready *ready, int most) { errno = ENOSYS; return -1; }
static inline int imcore_accept(int listener) { return -ENOSYS; }

#endif
#endif
