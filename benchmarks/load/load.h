/* What the load generators share: the clock, what the driver hands over, connecting, timing, percentiles.
 *
 * A generator prints the line `begin` when it starts to measure and `end` when it stops, so that whoever started it can
 * read the server's processor time at both, and then one line of JSON. Exit 2: could not begin; 3: no answer to a hello;
 * 4: the server closed a connection; 5: nothing came back for STALL_MS.
 */
#ifndef IMCORE_LOAD_H
#define IMCORE_LOAD_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { STALL_MS = 5000, PORTS_AN_ADDRESS = 20000 };

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

_Noreturn static inline void die(const char *what) {
    perror(what);
    exit(2);
}

_Noreturn static inline void fail(int code, const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(code);
}

/* Tell whoever started us that a phase begins or ends. */
static inline void say(const char *line) {
    puts(line);
    fflush(stdout);
}

/* Each connection is a descriptor: take as many as we may have. */
static inline void allow_many(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* What the driver hands over on standard input: numbers (native, 32 bits) and strings (a number, then that many bytes). */
static inline void take(void *into, size_t n) {
    if (fread(into, 1, n, stdin) != n)
        fail(2, "standard input ended early");
}

static inline uint32_t take_number(void) {
    uint32_t n;
    take(&n, sizeof n);
    return n;
}

typedef struct {
    uint8_t *data;
    uint32_t len;
} bytes_t;

static inline bytes_t take_bytes(void) {
    bytes_t b;
    b.len = take_number();
    b.data = malloc(b.len + 1);
    take(b.data, b.len);
    return b;
}

/* A socket for connection number i of n; not connected yet. One destination address has some 28,000 ports for us, so many
 * connections are spread over 127.0.x.y. receive_buffer: 0 leaves it to the kernel. */
static inline int socket_of(int i, int n, int receive_buffer) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0)
        die("socket");
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (n > PORTS_AN_ADDRESS) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f010000u + 1 + i / PORTS_AN_ADDRESS);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *) &from, sizeof from))
            die("bind");
    }
    return fd;
}

static inline struct sockaddr_in address_of(const char *host, const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(port))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        fail(2, "expected an IPv4 address");
    return to;
}

static inline int connect_to(struct sockaddr_in to, int i, int n, int receive_buffer) {
    int fd = socket_of(i, n, receive_buffer), one = 1;
    if (connect(fd, (struct sockaddr *) &to, sizeof to))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static inline void send_whole(int fd, const void *p, size_t n) {
    if (n && send(fd, p, n, MSG_NOSIGNAL) != (ssize_t) n)
        die("send");
}

/* Connect, say hello, and read `wait` bytes of the answer, so that neither the accept queue nor a backlog of hellos is
 * measured. The socket is non-blocking afterwards. */
static inline int introduce(struct sockaddr_in to, int i, int n, int receive_buffer, bytes_t hello, uint32_t wait) {
    static char answer[65536];
    int fd = connect_to(to, i, n, receive_buffer);
    uint64_t got = 0;
    double since = now();
    send_whole(fd, hello.data, hello.len);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (got < wait) {
        ssize_t k = recv(fd, answer, sizeof answer, 0);
        if (k > 0)
            got += (uint64_t) k;
        else if (k == 0)
            fail(3, "closed during the hello");
        else if (now() - since > 10)
            fail(3, "no whole answer to a hello within 10 s");
        else
            usleep(20);
    }
    return fd;
}

/* What came after the answers to the hellos is not measured either. */
static inline void drain(const int *fds, int n) {
    static char rest[65536];
    usleep(300000);
    for (int i = 0; i < n; i++)
        while (recv(fds[i], rest, sizeof rest, MSG_DONTWAIT) > 0) {}
}

/* A descriptor that becomes readable every `seconds`. */
static inline int every(double seconds) {
    long ns = (long) (seconds * 1e9);
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    struct itimerspec when = {t, t};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (fd < 0 || timerfd_settime(fd, 0, &when, NULL))
        die("timerfd");
    return fd;
}

static inline void watch(int ep, int how, int fd, uint32_t events, void *whose) {
    struct epoll_event e = {.events = events, .data.ptr = whose};
    if (epoll_ctl(ep, how, fd, &e))
        die("epoll_ctl");
}

/* Times in seconds; what does not fit any more is not kept, which a run of seconds never meets. */
enum { TIMES_MOST = 4000000 };

typedef struct {
    double *at;
    size_t n;
} times_t;

static inline times_t times_new(void) {
    times_t t = {malloc(TIMES_MOST * sizeof(double)), 0};
    return t;
}

static inline void times_add(times_t *t, double seconds) {
    if (t->n < TIMES_MOST)
        t->at[t->n++] = seconds;
}

static int times_order(const void *a, const void *b) {
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* The q-th part of the times, in microseconds; sorts them. */
static inline double times_part(times_t *t, double q) {
    if (!t->n)
        return 0;
    qsort(t->at, t->n, sizeof(double), times_order);
    return t->at[(size_t) ((double) (t->n - 1) * q)] * 1e6;
}

#endif
