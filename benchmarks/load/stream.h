/* A connection of wireload's: TCP, or with -DWITH_TLS TLS over TCP by OpenSSL, so that both are loaded by the same code. */
#ifndef IMCORE_STREAM_H
#define IMCORE_STREAM_H

#include "load.h"

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

typedef struct {
    int fd;
    SSL *ssl;
} stream_t;

/* Bytes that were taken or sent, 0 when the other side has closed, -1 when nothing is to be done now. */
static inline ssize_t stream_result(stream_t *s, int k) {
    if (k > 0)
        return k;
    switch (SSL_get_error(s->ssl, k)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        ERR_print_errors_fp(stderr);
        fail(4, "TLS failed");
    }
}

static inline ssize_t stream_send(stream_t *s, const void *p, size_t n) {
    return stream_result(s, SSL_write(s->ssl, p, n > 1 << 30 ? 1 << 30 : (int) n));
}

/* As much as there is: a record holds 16 KiB at most, and what OpenSSL holds already the poller does not tell of. */
static inline ssize_t stream_take(stream_t *s, char *p, size_t n) {
    size_t got = 0;
    while (got < n) {
        ssize_t k = stream_result(s, SSL_read(s->ssl, p + got, (int) (n - got)));
        if (k <= 0)
            return got ? (ssize_t) got : k;
        got += (size_t) k;
    }
    return (ssize_t) got;
}

/* The benchmark's certificate is its own: nothing is verified. */
static inline void stream_secure(stream_t *s) {
    static SSL_CTX *context;
    if (!context) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    s->ssl = SSL_new(context);
    SSL_set_fd(s->ssl, s->fd);
    if (SSL_connect(s->ssl) != 1)
        fail(3, "no TLS handshake");
}

#else

typedef struct {
    int fd;
} stream_t;

static inline ssize_t stream_send(stream_t *s, const void *p, size_t n) {
    ssize_t k = send(s->fd, p, n, MSG_NOSIGNAL);
    if (k < 0 && errno != EAGAIN)
        die("send");
    return k;
}

static inline ssize_t stream_take(stream_t *s, char *p, size_t n) {
    ssize_t k = recv(s->fd, p, n, 0);
    if (k < 0 && errno != EAGAIN)
        die("recv");
    return k;
}

static inline void stream_secure(stream_t *s) { (void) s; }

#endif
#endif
