/* Preloaded: while the file $FAULT exists, writes and syncs of this process fail with the errno that it holds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

static int fault(void) {
    const char *name = getenv("FAULT");
    FILE *file = name ? fopen(name, "r") : NULL;
    int number = 0;
    if (!file)
        return 0;
    if (fscanf(file, "%d", &number) != 1)
        number = EIO;
    fclose(file);
    errno = number;
    return number;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

ssize_t pwrite(int, const void *, size_t, off_t);
ssize_t pwrite64(int, const void *, size_t, off64_t);
int fdatasync(int);
int fsync(int);

ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    REAL(pwrite);
    return fault() ? -1 : real(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at) {
    REAL(pwrite64);
    return fault() ? -1 : real(fd, p, n, at);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return fault() ? -1 : real(fd);
}

int fsync(int fd) {
    REAL(fsync);
    return fault() ? -1 : real(fd);
}
