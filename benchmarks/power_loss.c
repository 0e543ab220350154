/* Writes down what a process does to the files of one folder: preload it with POWER_LOSS_FOLDER and
 * POWER_LOSS_JOURNAL set. Each record: a letter, the length of the path (4 bytes), offset and length (8 bytes each),
 * the path, the data. W write, T truncate to `offset`, S sync, U unlink, M move (the data is the new path).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_watched(const char *path) {
    const char *folder = getenv("POWER_LOSS_FOLDER");
    return folder && strncmp(path, folder, strlen(folder)) == 0 && !strstr(path, "-shm");
}

static void note(char what, const char *path, uint64_t offset, const void *data, uint64_t length) {
    uint32_t path_length = strlen(path);
    struct iovec parts[] = {
        {&what, 1}, {&path_length, 4}, {&offset, 8}, {&length, 8},
        {(void *)path, path_length}, {(void *)data, data ? length : 0},
    };
    pthread_mutex_lock(&lock);
    if (journal < 0)
        journal = open(getenv("POWER_LOSS_JOURNAL"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (writev(journal, parts, 6) < 0)
        abort();
    pthread_mutex_unlock(&lock);
}

static void note_of(char what, int file, uint64_t offset, const void *data, uint64_t length) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return;
    path[size] = 0;
    if (is_watched(path))
        note(what, path, offset, data, length);
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
    ssize_t written = REAL(pwrite64)(file, data, length, offset);
    if (written > 0)
        note_of('W', file, offset, data, written);
    return written;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    return pwrite64(file, data, length, offset);
}

ssize_t write(int file, const void *data, size_t length) {
    off_t offset = lseek(file, 0, SEEK_CUR);
    ssize_t written = REAL(write)(file, data, length);
    if (written > 0 && offset >= 0)
        note_of('W', file, offset, data, written);
    return written;
}

int ftruncate64(int file, off64_t length) {
    int failed = REAL(ftruncate64)(file, length);
    if (!failed)
        note_of('T', file, length, NULL, 0);
    return failed;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

int fdatasync(int file) {
    int failed = REAL(fdatasync)(file);
    if (!failed)
        note_of('S', file, 0, NULL, 0);
    return failed;
}

int fsync(int file) {
    int failed = REAL(fsync)(file);
    if (!failed)
        note_of('S', file, 0, NULL, 0);
    return failed;
}

int unlink(const char *path) {
    int failed = REAL(unlink)(path);
    if (!failed && is_watched(path))
        note('U', path, 0, NULL, 0);
    return failed;
}
