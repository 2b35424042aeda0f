/* p2p: durable messages from person to person, and proof that each arrived exactly once, in order, unharmed and answered.
 *
 * usage: p2p frames|mqtt HOST PORT PAIRS SECONDS WINDOW RATE < blob
 *   frames  the project's wire: senders say MSG with rising ids and get an ACK for each; receivers get MSG with sequence
 *           numbers and acknowledge cumulatively, once for what one read brought.
 *   mqtt    MQTT 3.1.1, QoS 1: PUBLISH and PUBACK on both sides.
 *   WINDOW  messages of a pair that were sent and have not reached its receiver yet. RATE 0: a closed loop, so that the
 *           arrival of one message is what sends the next. Otherwise so many messages a second are sent, a
 *           window at a time, evenly, by the pairs in turn; one that has 1,024 in flight lets its turn pass.
 *   blob    numbers: where in a message its id begins and how many bytes it has (8 or 2), where the text begins and its
 *           size; then for each pair: string hello of the receiver, string hello of the sender, string one message.
 * A text is `@PAIR:NUMBER@` and a filling that follows from both; it comes back unchanged, whatever surrounds it.
 *
 * It warms up until every pair has had a message, and WARM_S at least, measures for SECONDS, stops sending, and waits
 * until everything has arrived and was answered, DRAIN_S at most. JSON: messages received a second and p50/p99 from
 * send to receipt, of the measured part; of the whole run: sent, received, answered, lost, doubled, reordered, harmed,
 * gaps (jumps of the sequence numbers), unanswered, misanswered (answers out of order).
 */
#include "load.h"

enum { WARM_MS = 500, DRAIN_S = 15, RING = 1024, TEXT_MOST = 512, MARK = 18, HEADER = 16 };
enum { F_WELCOME = 2, F_MSG = 5, F_ACK = 6, F_ERROR = 10, FLAG_FAILED = 4 };
enum { M_CONNACK = 2, M_PUBLISH = 3, M_PUBACK = 4, M_SUBACK = 9 };

typedef struct pair pair;

typedef struct {
    int fd, waits, ready;   /* ready: its hello was answered */
    pair *whose;
    int receives;
    uint8_t *in, *out;
    size_t in_len, in_cap, out_len, out_cap;
} person;

struct pair {
    person receiver, sender;
    int number;
    bytes_t message;
    uint64_t sent, received, answered;
    uint64_t seq;           /* the newest sequence number (frames) */
    uint64_t next;          /* the number of the text that should come next */
    uint64_t *missing, n_missing;   /* numbers that were jumped over */
    double at[RING];        /* when a message was sent */
};

static struct {
    uint64_t received, doubled, reordered, harmed, gaps, misanswered, refused;
} count;

static int poller, n_pairs, mqtt, window, sending;
static uint32_t id_at, id_size, text_at, text_size;
static pair *pairs;
static times_t times;
static int measuring;
static char filling[TEXT_MOST + 26];

static uint64_t number_from(const uint8_t *p, int n) {
    uint64_t value = 0;
    while (n--)
        value = value << 8 | *p++;
    return value;
}

static void number_into(uint8_t *p, int n, uint64_t value) {
    while (n--) {
        p[n] = (uint8_t) value;
        value >>= 8;
    }
}

static void write_text(char *into, int number, uint64_t n) {
    char mark[MARK + 2];
    snprintf(mark, sizeof mark, "@%06d:%09llu@", number % 1000000, (unsigned long long) (n % 1000000000));
    memcpy(into, mark, MARK);
    memcpy(into + MARK, filling + (n + (uint64_t) number) % 26, text_size - MARK);
}

/* What goes. */

static uint8_t *reserve(person *p, size_t n) {
    if (p->out_len + n > p->out_cap)
        p->out = realloc(p->out, p->out_cap = (p->out_len + n) * 2);
    p->out_len += n;
    return p->out + p->out_len - n;
}

static void flush(person *p) {
    size_t at = 0;
    while (at < p->out_len) {
        ssize_t k = send(p->fd, p->out + at, p->out_len - at, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN)
            die("send");
        if (k < 0)
            break;
        at += (size_t) k;
    }
    p->out_len -= at;
    memmove(p->out, p->out + at, p->out_len);
    int waits = p->out_len > 0;
    if (waits != p->waits) {
        p->waits = waits;
        watch(poller, EPOLL_CTL_MOD, p->fd, EPOLLIN | (waits ? EPOLLOUT : 0), p);
    }
}

/* An MQTT packet identifier has 16 bits and is never 0. */
static uint64_t id_of(uint64_t n) {
    return mqtt ? (n - 1) % 65535 + 1 : n;
}

static void queue_message(pair *p) {
    uint8_t *into = reserve(&p->sender, p->message.len);
    uint64_t n = ++p->sent;
    memcpy(into, p->message.data, p->message.len);
    number_into(into + id_at, (int) id_size, id_of(n));
    write_text((char *) into + text_at, p->number, n);
    p->at[n % RING] = now();
}

/* What comes. */

static void check_text(pair *p, const uint8_t *body, size_t n) {
    char expected[TEXT_MOST];
    const uint8_t *text = memchr(body, '@', n);
    unsigned number;
    unsigned long long k;
    p->received++;
    count.received++;
    if (!text || n - (size_t) (text - body) < text_size || sscanf((const char *) text, "@%6u:%9llu@", &number, &k) != 2) {
        count.harmed++;
        return;
    }
    write_text(expected, (int) number, k);
    if (memcmp(expected, text, text_size) || (int) number != p->number) {
        count.harmed++;
        return;
    }
    if (k == p->next) {
        p->next++;
        if (measuring)
            times_add(&times, now() - p->at[k % RING]);
        return;
    }
    if (k > p->next) {
        for (; p->next < k; p->next++) {
            p->missing = realloc(p->missing, (p->n_missing + 1) * sizeof *p->missing);
            p->missing[p->n_missing++] = p->next;
        }
        p->next++;
        return;
    }
    for (uint64_t i = 0; i < p->n_missing; i++)
        if (p->missing[i] == k) {
            p->missing[i] = p->missing[--p->n_missing];
            count.reordered++;
            return;
        }
    count.doubled++;
}

static void check_answer(pair *p, uint64_t id) {
    if (id != id_of(++p->answered))
        count.misanswered++;
}

/* Take whole frames; returns the bytes that were used. */
static size_t take_frames(person *p, const uint8_t *data, size_t n) {
    size_t at = 0;
    uint64_t newest = 0;
    while (n - at >= HEADER) {
        const uint8_t *f = data + at;
        size_t length = number_from(f + 4, 4);
        if (n - at < HEADER + length)
            break;
        uint64_t id = number_from(f + 8, 8);
        if (f[1] == F_MSG && p->receives) {
            if (id != p->whose->seq + 1)
                count.gaps++;
            newest = p->whose->seq = id;
            check_text(p->whose, f + HEADER + f[3], length - f[3]);
        } else if (f[1] == F_ACK && !p->receives) {
            count.refused += (f[2] & FLAG_FAILED) != 0;
            check_answer(p->whose, id);
        } else if (f[1] == F_WELCOME) {
            p->ready = 1;
        } else if (f[1] == F_ERROR) {
            fprintf(stderr, "ERROR: %.*s\n", (int) length, f + HEADER);
            exit(4);
        }
        at += HEADER + length;
    }
    if (newest) {
        uint8_t *ack = reserve(p, HEADER);
        memcpy(ack, "\xa1\x06\0\0\0\0\0\0", 8);
        number_into(ack + 8, 8, newest);
    }
    return at;
}

static size_t take_packets(person *p, const uint8_t *data, size_t n) {
    size_t at = 0;
    for (;;) {
        size_t length = 0, head = 1;
        int shift = 0;
        do {
            if (at + head >= n)
                return at;
            length |= (size_t) (data[at + head] & 127) << shift;
            shift += 7;
        } while (data[at + head++] & 128);
        if (n - at < head + length)
            return at;
        const uint8_t *body = data + at + head;
        switch (data[at] >> 4) {
        case M_CONNACK:
            p->ready = !p->receives;
            break;
        case M_SUBACK:
            p->ready = 1;
            break;
        case M_PUBACK:
            check_answer(p->whose, number_from(body, 2));
            break;
        case M_PUBLISH: {
            size_t topic = number_from(body, 2);
            uint8_t *ack = reserve(p, 4);
            memcpy(ack, "\x40\x02", 2);
            memcpy(ack + 2, body + 2 + topic, 2);
            check_text(p->whose, body + 4 + topic, length - 4 - topic);
            break;
        }
        }
        at += head + length;
    }
}

/* Read, take, answer. Returns 0 when there was nothing. */
static int readable(person *p) {
    if (p->in_cap - p->in_len < 65536)
        p->in = realloc(p->in, p->in_cap = p->in_len + 65536);
    ssize_t k = recv(p->fd, p->in + p->in_len, p->in_cap - p->in_len, MSG_DONTWAIT);
    if (k == 0)
        fail(4, "the server closed a connection");
    if (k < 0) {
        if (errno != EAGAIN)
            die("recv");
        return 0;
    }
    p->in_len += (size_t) k;
    size_t used = (mqtt ? take_packets : take_frames)(p, p->in, p->in_len);
    p->in_len -= used;
    memmove(p->in, p->in + used, p->in_len);
    if (p->in_len == 0 && p->in_cap > 65536) {
        free(p->in);
        p->in = NULL;
        p->in_cap = 0;
    }
    if (p->out_len)
        flush(p);
    return 1;
}

static void introduce_person(person *p, pair *whose, int receives, struct sockaddr_in to, int i, bytes_t hello) {
    double since = now();
    p->whose = whose;
    p->receives = receives;
    p->fd = connect_to(to, i, 2 * n_pairs, 0);
    send_whole(p->fd, hello.data, hello.len);
    while (!p->ready) {
        if (!readable(p))
            usleep(20);
        if (now() - since > 10)
            fail(3, "no answer to a hello within 10 s");
    }
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    watch(poller, EPOLL_CTL_ADD, p->fd, EPOLLIN, p);
}

static void fill_window(pair *p) {
    if (!sending || p->sent - p->received >= (uint64_t) window)
        return;
    while (p->sent - p->received < (uint64_t) window)
        queue_message(p);
    flush(&p->sender);
}

static void send_due(double since, double rate, uint64_t *sent) {
    uint64_t due = (uint64_t) ((now() - since) * rate / window);
    for (; *sent < due; ++*sent) {
        pair *p = &pairs[*sent % (uint64_t) n_pairs];
        if (p->sent - p->received + (uint64_t) window > RING || !sending)
            continue;
        for (int i = 0; i < window; i++)
            queue_message(p);
        flush(&p->sender);
    }
}

static uint64_t outstanding(void) {
    uint64_t n = 0;
    for (int i = 0; i < n_pairs; i++)
        n += pairs[i].sent - pairs[i].received + pairs[i].sent - pairs[i].answered;
    return n;
}

static int warm(void) {
    for (int i = 0; i < n_pairs; i++)
        if (!pairs[i].received)
            return 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 8)
        fail(2, "usage: p2p frames|mqtt HOST PORT PAIRS SECONDS WINDOW RATE < blob");
    mqtt = !strcmp(argv[1], "mqtt");
    struct sockaddr_in to = address_of(argv[2], argv[3]);
    n_pairs = atoi(argv[4]);
    double seconds = atof(argv[5]), rate = atof(argv[7]);
    window = atoi(argv[6]);
    id_at = take_number();
    id_size = take_number();
    text_at = take_number();
    text_size = take_number();
    if (text_size < MARK || text_size > TEXT_MOST || window > RING)
        fail(2, "a text has 18 to 512 bytes, a window at most 1,024 messages");
    for (size_t i = 0; i < sizeof filling; i++)
        filling[i] = (char) ('a' + i % 26);
    pairs = calloc((size_t) n_pairs, sizeof *pairs);
    poller = epoll_create1(0);
    times = times_new();
    allow_many();
    for (int i = 0; i < n_pairs; i++) {
        bytes_t receiver = take_bytes(), sender = take_bytes();
        pairs[i].message = take_bytes();
        pairs[i].number = i;
        pairs[i].next = 1;
        introduce_person(&pairs[i].receiver, &pairs[i], 1, to, 2 * i, receiver);
        introduce_person(&pairs[i].sender, &pairs[i], 0, to, 2 * i + 1, sender);
        free(receiver.data);
        free(sender.data);
    }

    uint64_t sent = 0, before = 0;
    int timer = -1;
    double start = now(), since = 0, took = 0, last = start;
    sending = 1;
    if (rate > 0) {
        timer = every(rate / window > 2000 ? 0.0005 : window / rate);
        watch(poller, EPOLL_CTL_ADD, timer, EPOLLIN, NULL);
    } else {
        for (int i = 0; i < n_pairs; i++)
            fill_window(&pairs[i]);
    }
    static struct epoll_event events[1024];
    for (;;) {
        int k = epoll_wait(poller, events, 1024, 100);
        double t = now();
        for (int j = 0; j < k; j++) {
            person *p = events[j].data.ptr;
            if (!p) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) > 0)
                    send_due(start, rate, &sent);
                continue;
            }
            last = t;
            if (events[j].events & EPOLLOUT)
                flush(p);
            if (events[j].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                readable(p);
                if (p->receives && rate <= 0)
                    fill_window(p->whose);
            }
        }
        if (sending && t - last > STALL_MS / 1000.0)
            fail(5, "stalled: nothing comes back");
        if (!measuring && sending && t - start >= WARM_MS / 1000.0 && warm()) {
            say("begin");
            measuring = 1;
            since = now();
            before = count.received;
        } else if (measuring && t - since >= seconds) {
            took = now() - since;
            before = count.received - before;
            say("end");
            measuring = sending = 0;
            since = t;
        } else if (!sending && (!outstanding() || t - since > DRAIN_S)) {
            break;
        }
    }
    uint64_t all_sent = 0, answered = 0, lost = 0;
    for (int i = 0; i < n_pairs; i++) {
        all_sent += pairs[i].sent;
        answered += pairs[i].answered;
        lost += pairs[i].n_missing + pairs[i].sent + 1 - pairs[i].next;
    }
    printf("{\"connections\": %d, \"seconds\": %.4f, \"messages_per_s\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"sent\": %llu, \"received\": %llu, \"answered\": %llu, \"lost\": %llu, \"doubled\": %llu, "
           "\"reordered\": %llu, \"harmed\": %llu, \"gaps\": %llu, \"refused\": %llu, \"misanswered\": %llu}\n",
           2 * n_pairs, took, (double) before / took, times_part(&times, 0.5), times_part(&times, 0.99),
           (unsigned long long) all_sent, (unsigned long long) count.received, (unsigned long long) answered,
           (unsigned long long) lost, (unsigned long long) count.doubled, (unsigned long long) count.reordered,
           (unsigned long long) count.harmed, (unsigned long long) count.gaps, (unsigned long long) count.refused,
           (unsigned long long) count.misanswered);
    return 0;
}
