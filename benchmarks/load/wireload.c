/* wireload: a load generator that knows no protocol. It says only bytes that a driver hands it and counts bytes that come
 * back, so that the project and every peer are loaded by the same code.
 *
 * usage: wireload MODE HOST PORT N SECONDS WINDOW RXSIZE RATE < blob
 *   MODE    fanout: connection 0 publishes WINDOW copies of its message, and the next round begins when every other
 *                   connection has received WINDOW * RXSIZE bytes.
 *           echo:   every connection keeps WINDOW messages of its own in flight, each answered by RXSIZE bytes.
 *   RATE    0: a closed loop, as above. Otherwise an open one: so many messages a second are sent, a window at a time,
 *           evenly, whether the ones before them were answered or not; in echo the connections take turns.
 *   blob    for each connection: string hello, number wait (bytes that answer it); then for each connection (in fanout:
 *           for the first one): string, one message.
 * JSON: connections; messages received a second; in a closed loop p50 and p99 of a round (fanout) or a window (echo).
 */
#include "stream.h"

typedef struct {
    stream_t stream;
    uint64_t got;           /* bytes of the window's answers */
    bytes_t message;
    char *window;           /* WINDOW copies of the message */
    size_t window_len;
    size_t left;            /* bytes that are still to be sent; they are the window's end, over and over */
    int waits;              /* for room in the socket's buffer */
    double since;
} connection;

static char input[1 << 20];
static int poller, fanout, n_connections, window, answer_size;
static connection *all;
static times_t times;
static uint64_t received, round_left;
static double round_since;

/* Send what is left. The window repeats: its length is a multiple of the message's. */
static void push(connection *c) {
    int waits = 0;
    while (c->left) {
        size_t part = c->left % c->window_len ? c->left % c->window_len : c->window_len;
        ssize_t k = stream_send(&c->stream, c->window + c->window_len - part, part);
        if (k <= 0) {
            waits = 1;
            break;
        }
        c->left -= (size_t) k;
    }
    if (waits != c->waits) {
        c->waits = waits;
        watch(poller, EPOLL_CTL_MOD, c->stream.fd, EPOLLIN | (waits ? EPOLLOUT : 0), c);
    }
}

static void send_window(connection *c) {
    c->left += c->window_len;
    c->since = now();
    push(c);
}

static void begin_round(void) {
    round_left = (uint64_t) (n_connections - 1) * (uint64_t) window * (uint64_t) answer_size;
    round_since = now();
    send_window(&all[0]);
}

/* Bytes came in a closed loop. */
static void answered(connection *c, uint64_t size) {
    if (fanout) {
        round_left -= size > round_left ? round_left : size;
        if (!round_left) {
            times_add(&times, now() - round_since);
            begin_round();
        }
        return;
    }
    c->got += size;
    if (c->got >= (uint64_t) window * (uint64_t) answer_size) {
        times_add(&times, now() - c->since);
        c->got -= (uint64_t) window * (uint64_t) answer_size;
        send_window(c);
    }
}

/* In an open loop: send the windows that are due by now. */
static void send_due(double since, double rate, uint64_t *sent) {
    uint64_t due = (uint64_t) ((now() - since) * rate / window);
    for (; *sent < due; ++*sent)
        send_window(fanout ? &all[0] : &all[*sent % (uint64_t) n_connections]);
}

static void connect_all(struct sockaddr_in to) {
    bytes_t *hellos = calloc((size_t) n_connections, sizeof *hellos);
    uint32_t *waits = calloc((size_t) n_connections, sizeof *waits);
    int *fds = calloc((size_t) n_connections, sizeof *fds);
    for (int i = 0; i < n_connections; i++) {
        hellos[i] = take_bytes();
        waits[i] = take_number();
    }
    for (int i = 0; i < (fanout ? 1 : n_connections); i++) {
        connection *c = &all[i];
        c->message = take_bytes();
        c->window_len = (size_t) window * c->message.len;
        c->window = malloc(c->window_len);
        for (int w = 0; w < window; w++)
            memcpy(c->window + (size_t) w * c->message.len, c->message.data, c->message.len);
    }
    for (int i = 0; i < n_connections; i++) {
#ifdef WITH_TLS
        stream_t *s = &all[i].stream;
        uint64_t got = 0;
        double since = now();
        s->fd = connect_to(to, i, n_connections, 0);
        stream_secure(s);
        if (hellos[i].len && stream_send(s, hellos[i].data, hellos[i].len) != (ssize_t) hellos[i].len)
            fail(3, "could not send a hello");
        fcntl(s->fd, F_SETFL, O_NONBLOCK);
        while (got < waits[i]) {
            ssize_t k = stream_take(s, input, sizeof input);
            if (k > 0)
                got += (uint64_t) k;
            else if (k == 0 || now() - since > 10)
                fail(3, "no whole answer to a hello");
            else
                usleep(20);
        }
#else
        all[i].stream.fd = introduce(to, i, n_connections, 0, hellos[i], waits[i]);
#endif
        fds[i] = all[i].stream.fd;
    }
#ifdef WITH_TLS
    usleep(300000);
    for (int i = 0; i < n_connections; i++)
        while (stream_take(&all[i].stream, input, sizeof input) > 0) {}
#else
    drain(fds, n_connections);
#endif
    for (int i = 0; i < n_connections; i++)
        watch(poller, EPOLL_CTL_ADD, fds[i], EPOLLIN, &all[i]);
}

int main(int argc, char **argv) {
    if (argc != 9)
        fail(2, "usage: wireload fanout|echo HOST PORT N SECONDS WINDOW RXSIZE RATE < blob");
    fanout = !strcmp(argv[1], "fanout");
    n_connections = atoi(argv[4]);
    double seconds = atof(argv[5]), rate = atof(argv[8]);
    window = atoi(argv[6]);
    answer_size = atoi(argv[7]);
    all = calloc((size_t) n_connections, sizeof *all);
    poller = epoll_create1(0);
    times = times_new();
    allow_many();
    connect_all(address_of(argv[2], argv[3]));

    int timer = -1;
    uint64_t sent = 0;
    say("begin");
    double since = now(), end = since + seconds;
    if (rate > 0) {
        timer = every(rate / window > 2000 ? 0.0005 : window / rate);
        watch(poller, EPOLL_CTL_ADD, timer, EPOLLIN, NULL);
    } else if (fanout) {
        begin_round();
    } else {
        for (int i = 0; i < n_connections; i++)
            send_window(&all[i]);
    }
    static struct epoll_event events[1024];
    while (now() < end) {
        int k = epoll_wait(poller, events, 1024, STALL_MS);
        if (k == 0)
            fail(5, "stalled: nothing comes back");
        for (int j = 0; j < k; j++) {
            connection *c = events[j].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) > 0)
                    send_due(since, rate, &sent);
                continue;
            }
            if (events[j].events & EPOLLOUT)
                push(c);
            if (!(events[j].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                continue;
            ssize_t size = stream_take(&c->stream, input, sizeof input);
            if (size == 0)
                fail(4, "the server closed a connection");
            if (size < 0 || (fanout && c == &all[0]))
                continue;
            received += (uint64_t) size;
            if (rate <= 0)
                answered(c, (uint64_t) size);
        }
    }
    double took = now() - since;
    say("end");
    printf("{\"connections\": %d, \"seconds\": %.4f, \"messages_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           n_connections, took, (double) received / answer_size / took, times_part(&times, 0.5), times_part(&times, 0.99));
    return 0;
}
