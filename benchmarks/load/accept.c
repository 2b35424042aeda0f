/* accept: new links. Connect, say hello, read the answer, leave; FLIGHT of them at once, over and over.
 *
 * usage: accept HOST PORT FLIGHT SECONDS < blob
 *   blob  number of hellos, number wait (bytes that answer one), then each: string. The hellos take turns.
 * A link is left with a reset, so that no port has to wait out its time. JSON: links a second, p50 and p99 from connect
 * to answer.
 */
#include "load.h"

typedef struct {
    int fd, said;
    uint32_t got;
    double since;
} link_t;

static int poller, n_hellos, next;
static uint32_t wait;
static bytes_t *hellos;
static struct sockaddr_in to;

static void begin(link_t *l) {
    int one = 1;
    struct linger reset = {1, 0};
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        die("socket");
    setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    l->since = now();
    l->said = 0;
    l->got = 0;
    if (connect(l->fd, (struct sockaddr *) &to, sizeof to) && errno != EINPROGRESS)
        die("connect");
    watch(poller, EPOLL_CTL_ADD, l->fd, EPOLLOUT, l);
}

int main(int argc, char **argv) {
    static struct epoll_event events[1024];
    static char answer[4096];
    if (argc != 5)
        fail(2, "usage: accept HOST PORT FLIGHT SECONDS < blob");
    to = address_of(argv[1], argv[2]);
    int flight = atoi(argv[3]);
    double seconds = atof(argv[4]);
    n_hellos = (int) take_number();
    wait = take_number();
    hellos = calloc((size_t) n_hellos, sizeof *hellos);
    for (int i = 0; i < n_hellos; i++)
        hellos[i] = take_bytes();
    times_t times = times_new();
    link_t *links = calloc((size_t) flight, sizeof *links);
    uint64_t done = 0;
    poller = epoll_create1(0);
    allow_many();
    say("begin");
    double start = now();
    for (int i = 0; i < flight; i++)
        begin(&links[i]);
    while (now() - start < seconds) {
        int k = epoll_wait(poller, events, 1024, STALL_MS);
        if (k == 0)
            fail(5, "stalled: nothing comes back");
        for (int j = 0; j < k; j++) {
            link_t *l = events[j].data.ptr;
            if (!l->said) {
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error) {
                    errno = error;
                    die("connect");
                }
                l->said = 1;
                send_whole(l->fd, hellos[next].data, hellos[next].len);
                next = (next + 1) % n_hellos;
                watch(poller, EPOLL_CTL_MOD, l->fd, EPOLLIN, l);
                continue;
            }
            ssize_t got = recv(l->fd, answer, sizeof answer, 0);
            if (got == 0)
                fail(4, "the server closed a connection");
            if (got < 0) {
                if (errno != EAGAIN)
                    die("recv");
                continue;
            }
            l->got += (uint32_t) got;
            if (l->got < wait)
                continue;
            times_add(&times, now() - l->since);
            done++;
            close(l->fd);
            begin(l);
        }
    }
    double took = now() - start;
    say("end");
    printf("{\"connections\": %llu, \"seconds\": %.4f, \"links_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           (unsigned long long) done, took, (double) done / took, times_part(&times, 0.5), times_part(&times, 0.99));
    return 0;
}
