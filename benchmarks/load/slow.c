/* slow: links that stop reading in the middle of a room's fan-out, and read again. What do the others notice, what do the
 * slow ones miss, and do they get what is durable?
 *
 * usage: slow HOST PORT READERS SLOW SECONDS WINDOW < blob   (the project's wire)
 *   blob  for the publisher, then each reader, then each slow link: string hello, number wait; then string, one message
 *         for the room, number, where in it the 8 bytes of its number are; then number K, and for each slow link: string,
 *         K durable messages for its user, to be sent by the publisher
 * The publisher sends WINDOW messages and begins the next round when every reader has them; slow links are not waited
 * for. Three phases of SECONDS, each announced by a line: `all` (everyone reads), `stopped` (the slow ones do not; at its
 * middle the durable messages are sent), `again` (they do; it ends when they have everything, LATE_S later at most).
 * JSON: rounds, p50 and p99 of a round in each phase, room messages that slow links missed; how many links had a live
 * message again after how many milliseconds at most; durable messages expected, received, and received out of order.
 */
#include "load.h"

enum { HEADER = 16, LATE_S = 20, SLOW_BUFFER = 16384, F_MSG = 5, F_ERROR = 10, FLAG_ROOM = 2 };

typedef struct {
    int fd, slow, live;     /* live: had a message that was sent after it began to read again */
    uint8_t *in;
    size_t in_len, in_cap;
    uint64_t newest, missed, seq;
} member;

static int poller, n_readers, n_slow, window;
static member *all;
static bytes_t message;
static uint32_t number_at;
static uint64_t published, round_left, answered_from, misnumbered;
static double round_since, again_since, live_ms;
static int n_live;
static times_t times[3];
static int phase;
static uint8_t *out;
static size_t out_len, out_cap;
static int out_waits;

static uint64_t number_from(const uint8_t *p, int n) {
    uint64_t value = 0;
    while (n--)
        value = value << 8 | *p++;
    return value;
}

static void number_into(uint8_t *p, uint64_t value) {
    for (int n = 8; n--; value >>= 8)
        p[n] = (uint8_t) value;
}

static void queue(const void *p, size_t n) {
    if (out_len + n > out_cap)
        out = realloc(out, out_cap = (out_len + n) * 2);
    memcpy(out + out_len, p, n);
    out_len += n;
}

static void flush(void) {
    size_t at = 0;
    while (at < out_len) {
        ssize_t k = send(all[0].fd, out + at, out_len - at, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN)
            die("send");
        if (k < 0)
            break;
        at += (size_t) k;
    }
    out_len -= at;
    memmove(out, out + at, out_len);
    if (out_waits != (out_len > 0)) {
        out_waits = out_len > 0;
        watch(poller, EPOLL_CTL_MOD, all[0].fd, EPOLLIN | (out_waits ? EPOLLOUT : 0), &all[0]);
    }
}

static void begin_round(void) {
    round_left = (uint64_t) n_readers * (uint64_t) window * message.len;
    round_since = now();
    for (int i = 0; i < window; i++) {
        number_into(message.data + number_at, ++published);
        queue(message.data, message.len);
    }
    flush();
}

/* A slow link looks at each frame. */
static void take_frames(member *m) {
    size_t at = 0;
    uint64_t newest = 0;
    while (m->in_len - at >= HEADER) {
        const uint8_t *f = m->in + at;
        size_t size = HEADER + number_from(f + 4, 4);
        if (f[0] != 0xA1 || f[1] == F_ERROR)
            fail(4, "a slow link got an ERROR, or no frame");
        if (m->in_len - at < size)
            break;
        if (f[1] == F_MSG && f[2] & FLAG_ROOM) {
            uint64_t n = number_from(f + number_at, 8);
            if (n <= m->newest)
                misnumbered++;
            else if (m->newest)
                m->missed += n - m->newest - 1;
            m->newest = n;
            if (phase == 2 && !m->live && n > answered_from) {
                m->live = 1;
                n_live++;
                live_ms = (now() - again_since) * 1e3;
            }
        } else if (f[1] == F_MSG) {
            newest = number_from(f + 8, 8);
            if (newest != m->seq + 1)
                misnumbered++;
            m->seq = newest;
        }
        at += size;
    }
    m->in_len -= at;
    memmove(m->in, m->in + at, m->in_len);
    if (newest) {
        uint8_t ack[HEADER] = {0xA1, 6};
        number_into(ack + 8, newest);
        send_whole(m->fd, ack, sizeof ack);
    }
}

static void readable(member *m) {
    static char input[1 << 18];
    ssize_t k;
    if (!m->slow) {
        k = recv(m->fd, input, sizeof input, MSG_DONTWAIT);
    } else {
        if (m->in_cap - m->in_len < 16384)
            m->in = realloc(m->in, m->in_cap = m->in_len + 65536);
        k = recv(m->fd, m->in + m->in_len, m->in_cap - m->in_len, MSG_DONTWAIT);
    }
    if (k == 0)
        fail(4, "the server closed a link");
    if (k < 0) {
        if (errno != EAGAIN)
            die("recv");
        return;
    }
    if (m->slow) {
        m->in_len += (size_t) k;
        take_frames(m);
    } else if (m != &all[0]) {
        round_left -= (uint64_t) k > round_left ? round_left : (uint64_t) k;
        if (!round_left) {
            times_add(&times[phase], now() - round_since);
            begin_round();
        }
    }
}

static void listen_to_slow(int on) {
    for (int i = 1 + n_readers; i < 1 + n_readers + n_slow; i++)
        watch(poller, EPOLL_CTL_MOD, all[i].fd, on ? EPOLLIN : 0, &all[i]);
}

static void report_phase(const char *name) {
    printf("\"%s\": {\"rounds\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}, ", name, times[phase].n,
           times_part(&times[phase], 0.5), times_part(&times[phase], 0.99));
}

int main(int argc, char **argv) {
    static struct epoll_event events[1024];
    static const char *names[3] = {"all", "stopped", "again"};
    if (argc != 7)
        fail(2, "usage: slow HOST PORT READERS SLOW SECONDS WINDOW < blob");
    struct sockaddr_in to = address_of(argv[1], argv[2]);
    n_readers = atoi(argv[3]);
    n_slow = atoi(argv[4]);
    double seconds = atof(argv[5]);
    window = atoi(argv[6]);
    int n = 1 + n_readers + n_slow, *fds = calloc((size_t) n, sizeof *fds);
    all = calloc((size_t) n, sizeof *all);
    poller = epoll_create1(0);
    allow_many();
    for (int i = 0; i < n; i++) {
        bytes_t hello = take_bytes();
        uint32_t wait = take_number();
        all[i].slow = i > n_readers;
        all[i].fd = fds[i] = introduce(to, i, n, all[i].slow ? SLOW_BUFFER : 0, hello, wait);
    }
    message = take_bytes();
    number_at = take_number();
    uint32_t each = take_number();
    bytes_t *durable = calloc((size_t) n_slow, sizeof *durable);
    for (int i = 0; i < n_slow; i++)
        durable[i] = take_bytes();
    drain(fds, n);
    for (int i = 0; i < n; i++)
        watch(poller, EPOLL_CTL_ADD, fds[i], EPOLLIN, &all[i]);
    for (phase = 0; phase < 3; phase++)
        times[phase] = times_new();

    uint64_t expected = (uint64_t) each * (uint64_t) n_slow, had = 0;
    int told = 0;
    double since = 0;
    begin_round();
    for (phase = 0; phase < 3; phase++) {
        say(names[phase]);
        since = now();
        if (phase)
            listen_to_slow(phase == 2);
        if (phase == 2) {
            answered_from = published;
            again_since = since;
        }
        for (;;) {
            int k = epoll_wait(poller, events, 1024, STALL_MS);
            if (k == 0)
                fail(5, "stalled: nothing comes back");
            for (int j = 0; j < k; j++) {
                member *m = events[j].data.ptr;
                if (events[j].events & EPOLLOUT)
                    flush();
                if (events[j].events & EPOLLIN)
                    readable(m);
                else if (events[j].events & (EPOLLHUP | EPOLLERR))
                    fail(4, "the server closed a link");
            }
            double passed = now() - since;
            if (phase == 1 && !told && passed > seconds / 2) {
                for (int i = 0; i < n_slow; i++)
                    queue(durable[i].data, durable[i].len);
                flush();
                told = 1;
            }
            if (passed < seconds)
                continue;
            if (phase < 2 || passed > LATE_S)
                break;
            had = 0;
            for (int i = 1 + n_readers; i < n; i++)
                had += all[i].seq;
            if (had == expected && n_live == n_slow)
                break;
        }
    }
    say("end");
    uint64_t missed = 0;
    for (int i = 1 + n_readers; i < n; i++)
        missed += all[i].missed;
    printf("{");
    for (phase = 0; phase < 3; phase++)
        report_phase(names[phase]);
    printf("\"published\": %llu, \"missed\": %llu, \"live_again\": %d, \"live_again_ms\": %.1f, "
           "\"durable_expected\": %llu, \"durable_received\": %llu, \"misnumbered\": %llu}\n",
           (unsigned long long) published, (unsigned long long) missed, n_live, live_ms, (unsigned long long) expected,
           (unsigned long long) had, (unsigned long long) misnumbered);
    return 0;
}
