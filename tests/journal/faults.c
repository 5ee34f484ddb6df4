/* Preloaded into a child process: a disk that fails, fills up, or takes the process with it.
 *
 * faults_arm makes the Nth write, sync or read (or each from the Nth on) of files with certain endings fail with an
 * errno, or kill the process. faults_disk gives such files a disk of so many bytes. Nothing happens before one is called.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITES = 0, SYNCS = 1, READS = 2 };

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static char endings[512];
static int armed_kind = -1, armed_error, armed_once;
static long armed_at, counts[3];
static long long room = -1;

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
    for (const char *at = endings; *at;) {
        size_t size = strcspn(at, ":");
        if ((size_t)length >= size && !strncmp(path + length - size, at, size))
            return 1;
        at += size + (at[size] == ':');
    }
    return 0;
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
    ssize_t able;

    if (!concerned(fd))
        return real(fd, data, size);
    pthread_mutex_lock(&gate);
    able = admitted(fd, size, lseek(fd, 0, SEEK_CUR));
    if (able >= 0)
        able = real(fd, data, able);
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

static int flushed(const char *name, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int error = 0;

    if (concerned(fd)) {
        pthread_mutex_lock(&gate);
        error = struck(SYNCS);
        pthread_mutex_unlock(&gate);
    }
    if (!error)
        return real(fd);
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
