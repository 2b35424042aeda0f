/* idle: many links that say nothing but their heartbeats, those in rounds that whoever started us asks for.
 *
 * usage: idle HOST PORT N < blob
 *   blob  for each link: string hello, number wait (bytes that answer it); then string, one heartbeat ("" = none),
 *         number, the bytes that answer it
 * Prints `begin` when all links are up. Each further line on standard input is a round: every link sends one heartbeat, in
 * bursts of BURST, and when every one was answered a line says `round` and the milliseconds that it took. The end of
 * standard input is ours. Exit 4: a link was closed by the server.
 */
#include "load.h"
#include <poll.h>

enum { BURST = 100 };

typedef struct {
    int fd;
    uint32_t got;
} link_t;

static int poller;
static uint32_t answer_size;
static uint64_t answered;

/* Take what there is; returns after at most `wait_ms` without anything. */
static int listen_for(int wait_ms) {
    static struct epoll_event events[1024];
    static char input[65536];
    int k = epoll_wait(poller, events, 1024, wait_ms);
    for (int j = 0; j < k; j++) {
        link_t *l = events[j].data.ptr;
        ssize_t got = recv(l->fd, input, sizeof input, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            fail(4, "the server closed a link");
        if (got < 0 || !answer_size)
            continue;
        l->got += (uint32_t) got;
        while (l->got >= answer_size) {
            l->got -= answer_size;
            answered++;
        }
    }
    return k;
}

int main(int argc, char **argv) {
    if (argc != 4)
        fail(2, "usage: idle HOST PORT N < blob");
    struct sockaddr_in to = address_of(argv[1], argv[2]);
    int n = atoi(argv[3]);
    link_t *links = calloc((size_t) n, sizeof *links);
    int *fds = calloc((size_t) n, sizeof *fds);
    setvbuf(stdin, NULL, _IONBF, 0);
    poller = epoll_create1(0);
    allow_many();
    for (int i = 0; i < n; i++) {
        bytes_t hello = take_bytes();
        uint32_t wait = take_number();
        links[i].fd = fds[i] = introduce(to, i, n, 0, hello, wait);
        free(hello.data);
    }
    bytes_t beat = take_bytes();
    answer_size = take_number();
    drain(fds, n);
    for (int i = 0; i < n; i++)
        watch(poller, EPOLL_CTL_ADD, fds[i], EPOLLIN, &links[i]);
    say("begin");
    for (;;) {
        struct pollfd asked[2] = {{.fd = 0, .events = POLLIN}, {.fd = poller, .events = POLLIN}};
        char line[16];
        if (poll(asked, 2, -1) < 0)
            die("poll");
        if (asked[1].revents)
            listen_for(0);
        if (!asked[0].revents)
            continue;
        if (read(0, line, 1) <= 0)
            return 0;
        if (line[0] != '\n')
            continue;
        double since = now();
        answered = 0;
        for (int i = 0; i < n; i++) {
            send_whole(fds[i], beat.data, beat.len);
            if (i % BURST == BURST - 1)
                listen_for(0);
        }
        while (answered < (uint64_t) n)
            if (!listen_for(STALL_MS))
                fail(5, "stalled: a heartbeat was not answered");
        printf("round %.1f\n", (now() - since) * 1e3);
        fflush(stdout);
    }
}
