/* probe: how long the answer to a heartbeat takes. One link sends a heartbeat every INTERVAL_US whether the ones before were
 * answered or not (so that a server which stands still is seen in every heartbeat of that time, not only in one), and
 * the k-th answer is the k-th heartbeat's.
 *
 * usage: probe HOST PORT INTERVAL_US SECONDS RXSIZE < blob
 *   blob  string hello, number wait, string one heartbeat
 * It shares its core with the load: it asks for real-time priority, so that it is the server that is measured and not the
 * load, and says in the JSON whether it got it. JSON: heartbeats, p50_us, p99_us, max_us, unanswered, real_time.
 */
#include "load.h"
#include <sched.h>

int main(int argc, char **argv) {
    static char input[65536];
    if (argc != 6)
        fail(2, "usage: probe HOST PORT INTERVAL_US SECONDS RXSIZE < blob");
    double interval = atof(argv[3]) * 1e-6, seconds = atof(argv[4]);
    size_t size = (size_t) atoi(argv[5]), most = (size_t) (seconds / interval) + 1;
    bytes_t hello = take_bytes();
    uint32_t wait = take_number();
    bytes_t beat = take_bytes();
    struct sched_param first = {.sched_priority = 1};
    int real_time = sched_setscheduler(0, SCHED_FIFO, &first) == 0;
    int fd = introduce(address_of(argv[1], argv[2]), 0, 1, 0, hello, wait);
    drain(&fd, 1);
    double *at = calloc(most, sizeof *at);
    times_t times = times_new();
    size_t sent = 0, answered = 0, got = 0;
    int poller = epoll_create1(0), timer = every(interval), connection;
    watch(poller, EPOLL_CTL_ADD, timer, EPOLLIN, NULL);
    watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN, &connection);
    double start = now();
    while (now() - start < seconds || (answered < sent && now() - start < seconds + 2)) {
        struct epoll_event events[2];
        int k = epoll_wait(poller, events, 2, 100);
        for (int j = 0; j < k; j++) {
            uint64_t ticks;
            if (events[j].data.ptr) {
                ssize_t n = recv(fd, input, sizeof input, 0);
                if (n == 0)
                    fail(4, "the server closed the link");
                for (got += n > 0 ? (size_t) n : 0; got >= size && answered < sent; got -= size)
                    times_add(&times, now() - at[answered++]);
            } else if (read(timer, &ticks, sizeof ticks) > 0 && sent < most && now() - start < seconds) {
                at[sent++] = now();
                send_whole(fd, beat.data, beat.len);
            }
        }
    }
    printf("{\"heartbeats\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"unanswered\": %zu, "
           "\"real_time\": %s}\n",
           sent, times_part(&times, 0.5), times_part(&times, 0.99), times_part(&times, 1), sent - answered,
           real_time ? "true" : "false");
    return 0;
}
