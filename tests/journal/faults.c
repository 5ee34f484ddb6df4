/* Preloaded into a child process: a disk that fails, fills up, takes the process with it, or is watched.
 *
 * faults_arm makes the Nth write, sync or read (or each from the Nth on) of files with certain endings fail with an
 * errno, or kill the process. faults_disk gives such files a disk of so many bytes. faults_record writes down, in their
 * order, what is done to such files and what leaves by the network, so that a loss of power can be played afterwards;
 * faults_mark adds a word to that. Nothing happens before one is called.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES = 0, SYNCS = 1, READS = 2 };

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static char endings[512];
static int armed_kind = -1, armed_error, armed_once;
static long armed_at, counts[3];
static long long room = -1;
static int record_file = -1;

/* Several endings are separated by colons; an error of -1 kills. */
void faults_arm(const char *names, int kind, long first, int once, int error)
{
    pthread_mutex_lock(&gate);
    snprintf(endings, sizeof endings, "%s", names);
    armed_kind = kind, armed_at = first, armed_once = once, armed_error = error;
    counts[WRITES] = counts[SYNCS] = counts[READS] = 0;
    pthread_mutex_unlock(&gate);
}

void faults_disk(const char *names, long long bytes)
{
    pthread_mutex_lock(&gate);
    snprintf(endings, sizeof endings, "%s", names);
    room = bytes;
    pthread_mutex_unlock(&gate);
}

long faults_count(int kind)
{
    return counts[kind];
}

static int named(const char *path)
{
    size_t length = strlen(path);

    for (const char *at = endings; *at;) {
        size_t size = strcspn(at, ":");
        if (length >= size && !strncmp(path + length - size, at, size))
            return 1;
        at += size + (at[size] == ':');
    }
    return 0;
}

static int concerned(int fd)
{
    char link[64], path[4096];
    ssize_t length;

    if (!endings[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return named(path);
}

/* One line of the record: what was done, to which file or socket, where, and with which bytes. */
struct line {
    char what;
    char unused[7];
    long long file, at;
    int fd;
    unsigned path, data;
    unsigned end;
};

static void record(char what, int fd, long long file, long long at, const char *path, const void *data, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    struct line line = {.what = what, .file = file, .at = at, .fd = fd, .path = strlen(path), .data = size};
    char *all;

    if (record_file < 0 || !(all = malloc(sizeof line + line.path + size)))
        return;
    memcpy(all, &line, sizeof line);
    memcpy(all + sizeof line, path, line.path);
    if (size)
        memcpy(all + sizeof line + line.path, data, size);
    if (real(record_file, all, sizeof line + line.path + size) < 0)
        abort();
    free(all);
}

static long long number_of(int fd)
{
    struct stat found;

    return fstat(fd, &found) ? -1 : (long long)found.st_ino;
}

void faults_record(const char *names, const char *path)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");

    pthread_mutex_lock(&gate);
    snprintf(endings, sizeof endings, "%s", names);
    record_file = real(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pthread_mutex_unlock(&gate);
}

void faults_mark(const char *words)
{
    pthread_mutex_lock(&gate);
    record('m', -1, -1, 0, "", words, strlen(words));
    pthread_mutex_unlock(&gate);
}

/* The errno with which a call is to fail, or 0. Called with the gate closed. */
static int struck(int kind)
{
    long number = ++counts[kind];

    if (kind != armed_kind || !(armed_once ? number == armed_at : number >= armed_at))
        return 0;
    if (armed_error < 0)
        kill(getpid(), SIGKILL);
    return armed_error;
}

/* How many bytes of a write find room; -1 and an errno for none. Called with the gate closed. */
static ssize_t admitted(int fd, size_t size, off_t offset)
{
    struct stat found;
    long long grows;

    int error = struck(WRITES);
    if (error) {
        errno = error;
        return -1;
    }
    if (room < 0 || fstat(fd, &found))
        return size;
    grows = (long long)offset + (long long)size - found.st_size;
    if (grows <= 0)
        return size;
    if (grows > room) {
        if ((long long)size <= grows - room) {
            errno = ENOSPC;
            return -1;
        }
        size -= grows - room;
        grows = room;
    }
    room -= grows;
    return size;
}

static ssize_t positioned(const char *name, int fd, const void *data, size_t size, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    ssize_t able;

    if (!concerned(fd))
        return real(fd, data, size, offset);
    pthread_mutex_lock(&gate);
    able = admitted(fd, size, offset);
    if (able >= 0)
        able = real(fd, data, able, offset);
    if (able > 0)
        record('w', fd, number_of(fd), offset, "", data, able);
    pthread_mutex_unlock(&gate);
    return able;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return positioned("pwrite", fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return positioned("pwrite64", fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    off_t offset;
    ssize_t able;

    if (!concerned(fd))
        return real(fd, data, size);
    pthread_mutex_lock(&gate);
    offset = lseek(fd, 0, SEEK_CUR);
    able = admitted(fd, size, offset);
    if (able >= 0)
        able = real(fd, data, able);
    if (able > 0)
        record('w', fd, number_of(fd), offset, "", data, able);
    pthread_mutex_unlock(&gate);
    return able;
}

static int cut(const char *name, int fd, off_t size)
{
    int (*real)(int, off_t) = dlsym(RTLD_NEXT, name);
    struct stat found;
    int error, result;

    if (!concerned(fd))
        return real(fd, size);
    pthread_mutex_lock(&gate);
    error = struck(WRITES);
    if (!error && room >= 0 && !fstat(fd, &found) && found.st_size > size)
        room += found.st_size - size;
    result = error ? -1 : real(fd, size);
    if (!result)
        record('c', fd, number_of(fd), size, "", "", 0);
    pthread_mutex_unlock(&gate);
    if (error)
        errno = error;
    return result;
}

int ftruncate(int fd, off_t size)
{
    return cut("ftruncate", fd, size);
}

int ftruncate64(int fd, off_t size)
{
    return cut("ftruncate64", fd, size);
}

/* Directories are synced, too: what is created or removed in one is on disk only then. */
static void record_sync(int fd)
{
    char link[64], path[4096];
    struct stat found;
    ssize_t length;

    if (record_file < 0 || fstat(fd, &found))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    if (!S_ISDIR(found.st_mode) && !named(path))
        return;
    pthread_mutex_lock(&gate);
    record(S_ISDIR(found.st_mode) ? 'd' : 's', fd, found.st_ino, 0, path, "", 0);
    pthread_mutex_unlock(&gate);
}

static int flushed(const char *name, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int error = 0, result;

    if (concerned(fd)) {
        pthread_mutex_lock(&gate);
        error = struck(SYNCS);
        pthread_mutex_unlock(&gate);
    }
    if (!error) {
        result = real(fd);
        if (!result)
            record_sync(fd);
        return result;
    }
    errno = error;
    return -1;
}

int fsync(int fd)
{
    return flushed("fsync", fd);
}

int fdatasync(int fd)
{
    return flushed("fdatasync", fd);
}

static ssize_t fetched(const char *name, int fd, void *data, size_t size, off_t offset)
{
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    int error = 0;

    if (concerned(fd)) {
        pthread_mutex_lock(&gate);
        error = struck(READS);
        pthread_mutex_unlock(&gate);
    }
    if (!error)
        return real(fd, data, size, offset);
    errno = error;
    return -1;
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    return fetched("pread", fd, data, size, offset);
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
    return fetched("pread64", fd, data, size, offset);
}

/* What follows is only watched. */

static int created(const char *name, const char *path, int flags, mode_t mode)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    int new, fd;

    if (record_file < 0 || !(flags & O_CREAT) || !named(path))
        return real(path, flags, mode);
    pthread_mutex_lock(&gate);
    new = access(path, F_OK);
    fd = real(path, flags, mode);
    if (fd >= 0 && new)
        record('o', fd, number_of(fd), 0, path, "", 0);
    pthread_mutex_unlock(&gate);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list more;

    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return created("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;

    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return created("open64", path, flags, mode);
}

int unlink(const char *path)
{
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    int result;

    if (record_file < 0 || !named(path))
        return real(path);
    pthread_mutex_lock(&gate);
    result = real(path);
    if (!result)
        record('u', -1, -1, 0, path, "", 0);
    pthread_mutex_unlock(&gate);
    return result;
}

int link(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "link");
    struct stat found;
    int result;

    if (record_file < 0 || !named(to))
        return real(from, to);
    pthread_mutex_lock(&gate);
    result = real(from, to);
    if (!result && !stat(to, &found))
        record('l', -1, found.st_ino, 0, to, "", 0);
    pthread_mutex_unlock(&gate);
    return result;
}

/* A byte is said to leave before it does. */
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ssize_t (*real)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");

    if (record_file >= 0) {
        pthread_mutex_lock(&gate);
        record('n', fd, -1, 0, "", data, size);
        pthread_mutex_unlock(&gate);
    }
    return real(fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");

    if (record_file >= 0) {
        pthread_mutex_lock(&gate);
        for (size_t number = 0; number < message->msg_iovlen; number++)
            record('n', fd, -1, 0, "", message->msg_iov[number].iov_base, message->msg_iov[number].iov_len);
        pthread_mutex_unlock(&gate);
    }
    return real(fd, message, flags);
}
