/* limit: the least that a server of these frames can do on this machine, as the yardstick for the gateway. One thread,
 * epoll, the wire's 16-byte headers, output gathered over a turn of the loop and sent with one send() a connection. No
 * sessions, no acknowledgements, no care for hostile input: never a server, only a limit.
 *
 * usage: limit PORT fanout|echo
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 16, HELLO = 1, JOIN = 7, MOST = 1 << 20 };

typedef struct {
    int fd, dirty, member, waits;
    char *in, *out;
    size_t in_len, in_cap, out_len, out_cap;
} connection;

static connection *all[MOST], *dirty[MOST];
static int n_all, n_dirty, fanout, poller;
static char input[1 << 18];

static void mark(connection *c) {
    if (!c->dirty) {
        c->dirty = 1;
        dirty[n_dirty++] = c;
    }
}

static void put(connection *c, const char *p, size_t n) {
    if (c->out_len + n > c->out_cap)
        c->out = realloc(c->out, c->out_cap = (c->out_len + n) * 2);
    memcpy(c->out + c->out_len, p, n);
    c->out_len += n;
    mark(c);
}

/* HELLO and JOIN are answered by themselves; everything else goes back, or to all the others that have joined. */
static void frame(connection *c, const char *p, size_t n) {
    if (p[1] == HELLO || p[1] == JOIN) {
        c->member |= p[1] == JOIN;
        put(c, p, n);
    } else if (fanout) {
        for (int i = 0; i < n_all; i++)
            if (all[i] != c && all[i]->member)
                put(all[i], p, n);
    } else {
        put(c, p, n);
    }
}

static void watch(int how, int fd, uint32_t events, connection *c) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, how, fd, &e);
}

static void welcome(int listener) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = calloc(1, sizeof *c);
    c->fd = fd;
    all[n_all++] = c;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

static void forget(connection *c) {
    close(c->fd);
    for (int i = 0; i < n_all; i++)
        if (all[i] == c) {
            all[i] = all[--n_all];
            break;
        }
    c->member = 0;
}

static void readable(connection *c) {
    ssize_t got = recv(c->fd, input, sizeof input, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            forget(c);
        return;
    }
    char *p = input;
    size_t n = (size_t) got, at = 0;
    if (c->in_len) {
        if (c->in_len + n > c->in_cap)
            c->in = realloc(c->in, c->in_cap = (c->in_len + n) * 2);
        memcpy(c->in + c->in_len, input, n);
        p = c->in;
        n += c->in_len;
        c->in_len = 0;
    }
    while (n - at >= HEADER) {
        size_t size = HEADER + ntohl(*(uint32_t *) (p + at + 4));
        if (n - at < size)
            break;
        frame(c, p + at, size);
        at += size;
    }
    if (at == n)
        return;
    if (n - at > c->in_cap) {
        char *grown = malloc(c->in_cap = (n - at) * 2);
        memcpy(grown, p + at, n - at);
        free(c->in);
        c->in = grown;
    } else {
        memmove(c->in, p + at, n - at);
    }
    c->in_len = n - at;
}

static void flush(connection *c) {
    c->dirty = 0;
    ssize_t sent = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (sent < 0)
        sent = 0;
    c->out_len -= (size_t) sent;
    if (c->out_len)
        memmove(c->out, c->out + sent, c->out_len);
    if (c->waits != (c->out_len > 0)) {
        c->waits = c->out_len > 0;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN | (c->waits ? EPOLLOUT : 0), c);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: limit PORT fanout|echo\n");
        return 2;
    }
    fanout = !strcmp(argv[2], "fanout");
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    poller = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *) &at, sizeof at) || listen(listener, 4096)) {
        perror("bind");
        return 1;
    }
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    static struct epoll_event events[1024];
    for (;;) {
        int k = epoll_wait(poller, events, 1024, -1);
        for (int j = 0; j < k; j++) {
            connection *c = events[j].data.ptr;
            if (!c) {
                welcome(listener);
                continue;
            }
            if (events[j].events & EPOLLOUT && c->out_len)
                mark(c);
            if (events[j].events & (EPOLLIN | EPOLLHUP))
                readable(c);
        }
        for (int j = 0; j < n_dirty; j++)
            flush(dirty[j]);
        n_dirty = 0;
    }
}
