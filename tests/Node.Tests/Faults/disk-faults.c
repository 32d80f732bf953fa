/* Loaded before libc: makes syncs fail while the file "eio", and writes while the file "full" lies in the directory that DISK_FAULTS names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int asked(const char *fault) {
    char path[4096];
    const char *directory = getenv("DISK_FAULTS");
    if (!directory || snprintf(path, sizeof path, "%s/%s", directory, fault) >= (int)sizeof path) return 0;
    return access(path, F_OK) == 0;
}

static int is_file(int fd) {
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(error) do { errno = error; return -1; } while (0)

int fsync(int fd) { if (asked("eio")) FAIL(EIO); return REAL(fsync)(fd); }
int fdatasync(int fd) { if (asked("eio")) FAIL(EIO); return REAL(fdatasync)(fd); }
ssize_t write(int fd, const void *bytes, size_t count) { if (is_file(fd) && asked("full")) FAIL(ENOSPC); return REAL(write)(fd, bytes, count); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { if (is_file(fd) && asked("full")) FAIL(ENOSPC); return REAL(pwrite)(fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { if (is_file(fd) && asked("full")) FAIL(ENOSPC); return REAL(pwrite64)(fd, bytes, count, at); }
