/*
 * Records, in order, what a process writes to a database's write-ahead log and when it asks the kernel to make that
 * durable. Loaded by LD_PRELOAD into Carillon (SQLite) or PostgreSQL; tests/sync reads the result.
 *
 * CARILLON_SYNC_LOG names an existing file, shared by all processes: a 64-byte header whose first 8 bytes are the
 * number of records, then records of 64 bytes: u32 kind (1 write, 2 sync), u32 pid, then the end of the file's path,
 * zero-padded. A record is made after the call has returned without error, so an earlier record is an earlier event.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECORDS (1u << 20)
#define PATH_BYTES 56

struct header {
    _Atomic uint64_t count;
    char unused[56];
};
struct record {
    uint32_t kind, pid;
    char path[PATH_BYTES];
};
struct log {
    struct header header;
    struct record records[RECORDS];
};
_Static_assert(sizeof(struct record) == 64 && sizeof(struct header) == 64, "the layout that the tests read");

enum { WRITE = 1, SYNC = 2 };

static struct log *shared;

__attribute__((constructor)) static void open_log(void) {
    const char *path = getenv("CARILLON_SYNC_LOG");
    if (path == NULL) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || ftruncate(file, sizeof(struct log)) != 0) {
        perror("CARILLON_SYNC_LOG");
        abort();
    }
    void *mapped = mmap(NULL, sizeof(struct log), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) {
        perror("CARILLON_SYNC_LOG");
        abort();
    }
    shared = mapped;
}

/* Only write-ahead logs: SQLite's `x.sqlite-wal` and what lies in PostgreSQL's pg_wal/. */
static int is_write_ahead_log(const char *path, size_t length) {
    return (length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0) || strstr(path, "pg_wal/") != NULL;
}

static void record(uint32_t kind, int file) {
    if (shared == NULL) return;
    int saved = errno;
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        if (is_write_ahead_log(path, (size_t)length)) {
            uint64_t at = atomic_fetch_add(&shared->header.count, 1);
            if (at < RECORDS) {
                struct record *slot = &shared->records[at];
                size_t skip = (size_t)length > PATH_BYTES ? (size_t)length - PATH_BYTES : 0;
                slot->kind = kind;
                slot->pid = (uint32_t)getpid();
                memcpy(slot->path, path + skip, (size_t)length - skip);
            }
        }
    }
    errno = saved;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int fsync(int file) {
    REAL(fsync);
    int result = real(file);
    if (result == 0) record(SYNC, file);
    return result;
}

int fdatasync(int file) {
    REAL(fdatasync);
    int result = real(file);
    if (result == 0) record(SYNC, file);
    return result;
}

ssize_t write(int file, const void *bytes, size_t length) {
    REAL(write);
    ssize_t result = real(file, bytes, length);
    if (result > 0) record(WRITE, file);
    return result;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    REAL(pwrite);
    ssize_t result = real(file, bytes, length, at);
    if (result > 0) record(WRITE, file);
    return result;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    REAL(pwrite64);
    ssize_t result = real(file, bytes, length, at);
    if (result > 0) record(WRITE, file);
    return result;
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    ssize_t result = real(file, parts, count, at);
    if (result > 0) record(WRITE, file);
    return result;
}
