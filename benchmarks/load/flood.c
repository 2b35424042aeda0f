/* flood: links that say one frame as often as the server takes it, and read whatever comes back.
 *
 * usage: flood HOST PORT LINKS SECONDS < blob
 *   blob  string frame; for each link string hello, number wait.
 * The frame's id (8 bytes from offset 8 on) rises by one with each frame of a link, unless it is 0. JSON: frames a second
 * that the kernel took, which is what the server took but for its buffers.
 */
#include "load.h"

enum { BATCH = 65536, ID_AT = 8, WARM_MS = 200 };

typedef struct {
    int fd;
    uint64_t id;
    uint8_t *out;
    size_t at, len;
} flooder;

static uint64_t id_of(const uint8_t *p) {
    uint64_t id = 0;
    for (int i = 0; i < 8; i++)
        id = id << 8 | p[ID_AT + i];
    return id;
}

static void fill(flooder *f, bytes_t frame) {
    f->at = f->len = 0;
    while (f->len + frame.len <= BATCH) {
        memcpy(f->out + f->len, frame.data, frame.len);
        if (f->id)
            for (int i = 0; i < 8; i++)
                f->out[f->len + ID_AT + i] = (uint8_t) (f->id >> (56 - 8 * i));
        f->id += f->id > 0;
        f->len += frame.len;
    }
}

int main(int argc, char **argv) {
    static char input[65536];
    if (argc != 5)
        fail(2, "usage: flood HOST PORT LINKS SECONDS < blob");
    int n = atoi(argv[3]), poller = epoll_create1(0);
    double seconds = atof(argv[4]);
    bytes_t frame = take_bytes();
    flooder *all = calloc((size_t) n, sizeof *all);
    for (int i = 0; i < n; i++) {
        bytes_t hello = take_bytes();
        all[i].fd = introduce(address_of(argv[1], argv[2]), i, n, 0, hello, take_number());
        all[i].id = id_of((const uint8_t *) frame.data);
        all[i].out = malloc(BATCH);
        fill(&all[i], frame);
        watch(poller, EPOLL_CTL_ADD, all[i].fd, EPOLLIN | EPOLLOUT, &all[i]);
    }
    double start = now() + WARM_MS * 1e-3, from = 0;
    uint64_t sent = 0;
    for (;;) {
        struct epoll_event events[64];
        int k = epoll_wait(poller, events, 64, 100);
        double t = now();
        if (!from && t >= start) {
            from = t;
            sent = 0;
            say("begin");
        }
        if (from && t - from >= seconds)
            break;
        for (int j = 0; j < k; j++) {
            flooder *f = events[j].data.ptr;
            if (events[j].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && recv(f->fd, input, sizeof input, 0) == 0)
                fail(4, "the server closed the link");
            if (events[j].events & EPOLLOUT) {
                ssize_t got = send(f->fd, f->out + f->at, f->len - f->at, MSG_NOSIGNAL);
                if (got < 0 && errno != EAGAIN)
                    die("send");
                f->at += got > 0 ? (size_t) got : 0;
                sent += got > 0 ? (uint64_t) got : 0;
                if (f->at == f->len)
                    fill(f, frame);
            }
        }
    }
    double took = now() - from;
    say("end");
    printf("{\"messages_per_s\": %.1f, \"seconds\": %.3f}\n", (double) sent / (double) frame.len / took, took);
    return 0;
}
