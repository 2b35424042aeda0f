/* transfer: files over HTTP, many at once: a server's throughput, up or down.
 *
 * usage: transfer put|get HOST PORT FLIGHT FILE RATE < blob
 *   blob  number N; then N times: string, a whole request head; each goes on a connection of its own, FLIGHT at once
 *   put   behind each head go the bytes of FILE; a response begins with a status of 2xx
 *   RATE  bytes a second that each connection sends at most, evenly (SO_MAX_PACING_RATE); 0 = as fast as it goes
 *   get   a response has a Content-Length, and so many bytes behind its head; FILE is not opened
 * JSON: bytes of bodies, seconds, megabytes (10^6) a second.
 */
#include "load.h"

#include <sched.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

enum { HEAD_MOST = 8192, PIECE = 1 << 18 };

typedef struct {
    int fd;
    off_t sent;             /* of the file */
    char head[HEAD_MOST];
    size_t head_len;
    int answered;           /* the response's head is there */
    int64_t left;           /* bytes of its body that have not come */
} transfer;

static int poller, file = -1, n_heads, next_head;
static off_t size;
static bytes_t *heads;
static struct sockaddr_in to;
static uint64_t bytes;
static uint32_t rate;
static char *piece;

static void begin(transfer *t) {
    t->fd = connect_to(to, 0, 1, 0);
    if (rate)
        setsockopt(t->fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
    t->sent = 0;
    t->head_len = 0;
    t->answered = 0;
    t->left = 0;
    send_whole(t->fd, heads[next_head].data, heads[next_head].len);
    next_head++;
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
    watch(poller, EPOLL_CTL_ADD, t->fd, EPOLLIN | (file >= 0 ? EPOLLOUT : 0), t);
}

static void writable(transfer *t) {
    while (t->sent < size) {
        ssize_t k = sendfile(t->fd, file, &t->sent, PIECE);
        if (k < 0 && errno == EAGAIN)
            return;
        if (k <= 0)
            die("sendfile");
        bytes += (uint64_t) k;
        sched_yield(); /* what measures on this core is not to wait for the end of our slice */
    }
    watch(poller, EPOLL_CTL_MOD, t->fd, EPOLLIN, t);
}

/* Returns 1 when the response is whole. */
static int readable(transfer *t) {
    for (int turn = 0; turn < 8; turn++) {
        if (t->answered) {
            ssize_t k = recv(t->fd, piece, PIECE, 0);
            if (k < 0 && errno == EAGAIN)
                return 0;
            if (k <= 0)
                fail(4, "the server ended a response early");
            bytes += (uint64_t) k;
            t->left -= k;
        } else {
            ssize_t k = recv(t->fd, t->head + t->head_len, HEAD_MOST - 1 - t->head_len, 0);
            if (k < 0 && errno == EAGAIN)
                return 0;
            if (k <= 0)
                fail(4, "the server closed a connection");
            t->head_len += (size_t) k;
            t->head[t->head_len] = 0;
            char *end = strstr(t->head, "\r\n\r\n");
            if (!end)
                continue;
            if (strncmp(t->head, "HTTP/1.1 2", 10)) {
                t->head[strcspn(t->head, "\r")] = 0;
                fail(4, t->head);
            }
            t->answered = 1;
            char *length = strcasestr(t->head, "\r\nContent-Length:");
            if (file < 0 && length && length < end)
                t->left = atoll(length + 17) - (int64_t) (t->head + t->head_len - end - 4);
        }
        if (t->answered && t->left <= 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    struct epoll_event events[256];
    if (argc != 7)
        fail(2, "usage: transfer put|get HOST PORT FLIGHT FILE RATE < blob");
    rate = (uint32_t) atoi(argv[6]);
    to = address_of(argv[2], argv[3]);
    if (!strcmp(argv[1], "put")) {
        struct stat found;
        if ((file = open(argv[5], O_RDONLY)) < 0 || fstat(file, &found))
            die(argv[5]);
        size = found.st_size;
    }
    n_heads = (int) take_number();
    heads = calloc((size_t) n_heads, sizeof *heads);
    for (int i = 0; i < n_heads; i++)
        heads[i] = take_bytes();
    int flight = atoi(argv[4]) < n_heads ? atoi(argv[4]) : n_heads, running = flight;
    transfer *all = calloc((size_t) flight, sizeof *all);
    piece = malloc(PIECE);
    poller = epoll_create1(0);
    allow_many();
    say("begin");
    double start = now();
    for (int i = 0; i < flight; i++)
        begin(&all[i]);
    while (running) {
        int k = epoll_wait(poller, events, 256, 8 * STALL_MS);
        if (k == 0)
            fail(5, "stalled: nothing moves");
        for (int j = 0; j < k; j++) {
            transfer *t = events[j].data.ptr;
            if (events[j].events & EPOLLOUT)
                writable(t);
            if (events[j].events & ~EPOLLOUT && readable(t)) {
                close(t->fd);
                if (next_head < n_heads)
                    begin(t);
                else
                    running--;
            }
        }
    }
    double took = now() - start;
    say("end");
    printf("{\"bytes\": %llu, \"seconds\": %.4f, \"mb_per_s\": %.1f}\n", (unsigned long long) bytes, took,
           (double) bytes / took / 1e6);
    return 0;
}
