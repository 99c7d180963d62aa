/*
 * Simulates a slow, full or broken disk for one process: an LD_PRELOAD library between
 * SQLite and the C library. It does not affect reads and writes by Go itself.
 *
 * DISKFAULT_DIR      the directory whose files are affected
 * DISKFAULT_CONTROL  a file of rules, one per line, which is read again when it is replaced:
 *
 *     OP SUFFIX ERRNO DELAY COUNT MODE
 *
 *   OP      read, write, sync or truncate
 *   SUFFIX  the end of the file name; * means every file
 *   ERRNO   the error as a number; 0 means none
 *   DELAY   milliseconds by which calls are delayed, until the rules change
 *   COUNT   how many calls fail; -1 means all
 *   MODE    lose: a failed sync writes nothing, and its pages count as written, as in
 *                 Linux: no later sync writes them
 *           keep: a failed sync has written everything
 *           short: a failed write writes the first half
 *
 * DISKFAULT_SHADOW   a directory with what a power loss would leave of each file. A
 *   successful sync copies the pages that were written since the last one. FILE.dirty has
 *   a byte for each page that a sync must still write; like the memory of the kernel, it
 *   outlives the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 16 };

struct rule {
	char op[16], suffix[32], mode[16];
	int err, delay, count;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards everything below */
static struct rule rules[MOST];
static int known;
static struct stat seen;
static off64_t short_end = -1; /* end of the last short write */

static const char *dir, *control, *shadow;
static ssize_t (*real_pread)(int, void *, size_t, off64_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void)
{
	dir = getenv("DISKFAULT_DIR");
	control = getenv("DISKFAULT_CONTROL");
	shadow = getenv("DISKFAULT_SHADOW");
	real_pread = dlsym(RTLD_NEXT, "pread64");
	real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
	real_fsync = dlsym(RTLD_NEXT, "fsync");
	real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
	real_unlink = dlsym(RTLD_NEXT, "unlink");
}

/* name_of returns the name of an open file in DISKFAULT_DIR, or NULL. */
static const char *name_of(int fd, char *path)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	if (!dir || n < 0)
		return NULL;
	path[n] = 0;
	size_t length = strlen(dir);
	return strncmp(path, dir, length) == 0 && path[length] == '/' ? path + length + 1 : NULL;
}

static void load_locked(void)
{
	struct stat now;
	if (!control || stat(control, &now) != 0 ||
	    (now.st_ino == seen.st_ino && memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim) == 0))
		return;
	seen = now;
	known = 0;
	FILE *file = fopen(control, "r");
	if (!file)
		return;
	for (struct rule r; known < MOST && fscanf(file, "%15s %31s %d %d %d %15s", r.op, r.suffix, &r.err, &r.delay, &r.count, r.mode) == 6;)
		rules[known++] = r;
	fclose(file);
}

static int ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), s = strlen(suffix);
	return strcmp(suffix, "*") == 0 || (n >= s && strcmp(name + n - s, suffix) == 0);
}

/* delay_of returns the delay of the call in milliseconds, by the current rules. */
static int delay_of(const char *op, const char *name)
{
	int delay = 0;
	pthread_mutex_lock(&mutex);
	load_locked();
	for (struct rule *r = rules; r < rules + known; r++)
		if (strcmp(r->op, op) == 0 && ends_with(name, r->suffix))
			delay += r->delay;
	pthread_mutex_unlock(&mutex);
	return delay;
}

/* fault delays the call by the rules, and returns its error, or 0. */
static int fault(const char *op, const char *name, char *mode)
{
	int err = 0;
	if (!name)
		return 0;
	for (int waited = 0; waited < delay_of(op, name); waited += 10)
		nanosleep(&(struct timespec){0, 10 * 1000000L}, NULL);
	pthread_mutex_lock(&mutex);
	load_locked();
	for (struct rule *r = rules; r < rules + known && !err; r++) {
		if (strcmp(r->op, op) != 0 || !r->err || r->count == 0 || !ends_with(name, r->suffix))
			continue;
		err = r->err;
		strcpy(mode, r->mode);
		if (r->count > 0)
			r->count--;
	}
	pthread_mutex_unlock(&mutex);
	return err;
}

static int open_shadow(const char *name, const char *suffix)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s%s", shadow, name, suffix);
	return open64(path, O_RDWR | O_CREAT, 0600);
}

static void mark_dirty(const char *name, off64_t offset, size_t count)
{
	if (!shadow || count == 0)
		return;
	pthread_mutex_lock(&mutex);
	int dirty = open_shadow(name, ".dirty");
	for (off64_t page = offset / PAGE; page <= (offset + (off64_t)count - 1) / PAGE; page++)
		real_pwrite(dirty, "\1", 1, page);
	close(dirty);
	pthread_mutex_unlock(&mutex);
}

/* synced clears the list of dirty pages, and copies them unless they are lost. */
static void synced(int fd, const char *name, int lost)
{
	if (!shadow)
		return;
	pthread_mutex_lock(&mutex);
	int dirty = open_shadow(name, ".dirty"), disk = open_shadow(name, "");
	char is, page[PAGE];
	for (off64_t i = 0; real_pread(dirty, &is, 1, i) == 1; i++) {
		ssize_t n = is && !lost ? real_pread(fd, page, PAGE, i * PAGE) : 0;
		if (n > 0)
			real_pwrite(disk, page, n, i * PAGE);
	}
	real_ftruncate(dirty, 0);
	close(dirty);
	close(disk);
	pthread_mutex_unlock(&mutex);
}

ssize_t pread64(int fd, void *data, size_t count, off64_t offset)
{
	char path[PATH_MAX], mode[16];
	int err = fault("read", name_of(fd, path), mode);
	if (err) {
		errno = err;
		return -1;
	}
	return real_pread(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset)
{
	char path[PATH_MAX], mode[16];
	const char *name = name_of(fd, path);
	int err = fault("write", name, mode);
	if (err && (strcmp(mode, "short") != 0 || count < 2 || offset == short_end)) {
		short_end = -1;
		errno = err;
		return -1;
	}
	if (err) { /* the other half fails next */
		count /= 2;
		short_end = offset + (off64_t)count;
	}
	ssize_t n = real_pwrite(fd, data, count, offset);
	if (name && n > 0)
		mark_dirty(name, offset, n);
	return n;
}

int fsync(int fd)
{
	char path[PATH_MAX], mode[16];
	const char *name = name_of(fd, path);
	int err = fault("sync", name, mode);
	struct stat s;
	if (name && fstat(fd, &s) == 0 && S_ISREG(s.st_mode))
		synced(fd, name, err && strcmp(mode, "keep") != 0);
	if (err) {
		errno = err;
		return -1;
	}
	return real_fsync(fd);
}

int fdatasync(int fd) { return fsync(fd); }

int ftruncate64(int fd, off64_t size)
{
	char path[PATH_MAX], mode[16];
	const char *name = name_of(fd, path);
	int err = fault("truncate", name, mode);
	if (err) {
		errno = err;
		return -1;
	}
	if (name && shadow) { /* assumes that the directory and the lengths of files are durable at once */
		int disk = open_shadow(name, "");
		real_ftruncate(disk, size);
		close(disk);
	}
	return real_ftruncate(fd, size);
}

int unlink(const char *file)
{
	size_t length = dir ? strlen(dir) : 0;
	if (shadow && dir && strncmp(file, dir, length) == 0 && file[length] == '/') {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/%s", shadow, file + length + 1);
		real_unlink(path);
		strcat(path, ".dirty");
		real_unlink(path);
	}
	return real_unlink(file);
}
