/*-------------------------------------------------------------------------
 *
 * faults.c
 *		Preloaded into a test's server: a full or broken disk, a wrong clock and
 *		a network that can be cut, switched on and off from outside while it runs.
 *
 * In the directory $PGQ_FAULTS:
 *		full		if it exists, writes that would need space, to files whose
 *					path has /pg_quorum/ in it, fail with ENOSPC
 *		full_tables	if it exists, writes that would make files of tables and
 *					indexes longer (paths with /base/ in them) fail with ENOSPC
 *		eio			if it exists, every write to and sync of such files fails with
 *					EIO
 *		clock		microseconds, decimal, signed, added to the wall clock
 * The monotonic clock is never touched. Processes look again all the time, so
 * that a change counts at once; nothing is kept between calls.
 *
 * $PGQ_LINKS, PORT=OTHER,...: connections to a PORT of 127.0.0.1 go to OTHER, on
 * which test/fault/links.c listens and passes on, or not, what it gets.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(type, name) ((type) dlsym(RTLD_NEXT, name))

static bool
fault_path(char *path, size_t size, const char *name)
{
	const char *dir = getenv("PGQ_FAULTS");

	if (!dir)
		return false;
	snprintf(path, size, "%s/%s", dir, name);
	return true;
}

static bool
disk_fault_in(int fd, const char *name, const char *folder)
{
	char		path[1024];
	char		link[64];
	int			saved = errno;
	ssize_t		len = 0;

	if (fault_path(path, sizeof(path), name) && access(path, F_OK) == 0)
	{
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		len = readlink(link, path, sizeof(path) - 1);
	}
	errno = saved;
	if (len <= 0)
		return false;
	path[len] = '\0';
	return strstr(path, folder) != NULL;
}

static bool
disk_fault(int fd, const char *name)
{
	return disk_fault_in(fd, name, "/pg_quorum/");
}

/* What writing to fd fails with now; 0: nothing. */
static int
write_fault(int fd)
{
	return disk_fault(fd, "eio") ? EIO : disk_fault(fd, "full") ? ENOSPC : 0;
}

/* The same for a write that ends there. */
static int
extend_fault(int fd, off_t end)
{
	struct stat status;

	if (disk_fault_in(fd, "full_tables", "/base/") && fstat(fd, &status) == 0 && end > status.st_size)
		return ENOSPC;
	return write_fault(fd);
}

static off_t
length_of(const struct iovec *iov, int count)
{
	off_t		length = 0;

	for (int i = 0; i < count; i++)
		length += iov[i].iov_len;
	return length;
}

static long long
clock_offset_us(void)
{
	static int	(*real_open) (const char *, int,...) = NULL;
	char		path[1024];
	char		text[32] = "";
	int			saved = errno;
	int			fd;

	if (!fault_path(path, sizeof(path), "clock"))
		return 0;
	if (!real_open)
		real_open = NEXT(int (*) (const char *, int,...), "open");
	fd = real_open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
	{
		if (read(fd, text, sizeof(text) - 1) < 0)
			text[0] = '\0';
		close(fd);
	}
	errno = saved;
	return atoll(text);
}

int
clock_gettime(clockid_t id, struct timespec *t)
{
	static int	(*real) (clockid_t, struct timespec *) = NULL;
	int			status;

	if (!real)
		real = NEXT(int (*) (clockid_t, struct timespec *), "clock_gettime");
	status = real(id, t);
	if (status == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
	{
		long long	ns = t->tv_nsec + clock_offset_us() % 1000000 * 1000;

		t->tv_sec += clock_offset_us() / 1000000;
		if (ns < 0)
			t->tv_sec--, ns += 1000000000;
		else if (ns >= 1000000000)
			t->tv_sec++, ns -= 1000000000;
		t->tv_nsec = ns;
	}
	return status;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec t;

	(void) tz;
	if (clock_gettime(CLOCK_REALTIME, &t) != 0)
		return -1;
	tv->tv_sec = t.tv_sec;
	tv->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (result)
		*result = t.tv_sec;
	return t.tv_sec;
}

#define FAIL_IF(error) \
	do { \
		int			error_ = (error); \
		if (error_ != 0) \
		{ \
			errno = error_; \
			return -1; \
		} \
	} while (0)

ssize_t
write(int fd, const void *buf, size_t len)
{
	static ssize_t (*real) (int, const void *, size_t) = NULL;

	FAIL_IF(write_fault(fd));
	if (!real)
		real = NEXT(ssize_t (*) (int, const void *, size_t), "write");
	return real(fd, buf, len);
}

ssize_t
pwrite(int fd, const void *buf, size_t len, off_t at)
{
	static ssize_t (*real) (int, const void *, size_t, off_t) = NULL;

	FAIL_IF(extend_fault(fd, at + (off_t) len));
	if (!real)
		real = NEXT(ssize_t (*) (int, const void *, size_t, off_t), "pwrite");
	return real(fd, buf, len, at);
}

ssize_t
pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
	return pwrite(fd, buf, len, at);
}

ssize_t
writev(int fd, const struct iovec *iov, int count)
{
	static ssize_t (*real) (int, const struct iovec *, int) = NULL;

	FAIL_IF(write_fault(fd));
	if (!real)
		real = NEXT(ssize_t (*) (int, const struct iovec *, int), "writev");
	return real(fd, iov, count);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
	static ssize_t (*real) (int, const struct iovec *, int, off_t) = NULL;

	FAIL_IF(extend_fault(fd, at + length_of(iov, count)));
	if (!real)
		real = NEXT(ssize_t (*) (int, const struct iovec *, int, off_t), "pwritev");
	return real(fd, iov, count, at);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int count, off64_t at)
{
	return pwritev(fd, iov, count, at);
}

int
posix_fallocate(int fd, off_t at, off_t len)
{
	static int	(*real) (int, off_t, off_t) = NULL;

	int			error = extend_fault(fd, at + len);

	if (error != 0)
		return error;			/* returned, not set */
	if (!real)
		real = NEXT(int (*) (int, off_t, off_t), "posix_fallocate");
	return real(fd, at, len);
}

int
posix_fallocate64(int fd, off64_t at, off64_t len)
{
	return posix_fallocate(fd, at, len);
}

int
fallocate(int fd, int mode, off_t at, off_t len)
{
	static int	(*real) (int, int, off_t, off_t) = NULL;

	FAIL_IF(write_fault(fd));
	if (!real)
		real = NEXT(int (*) (int, int, off_t, off_t), "fallocate");
	return real(fd, mode, at, len);
}

int
fdatasync(int fd)
{
	static int	(*real) (int) = NULL;

	FAIL_IF(disk_fault(fd, "eio") ? EIO : 0);
	if (!real)
		real = NEXT(int (*) (int), "fdatasync");
	return real(fd);
}

int
fsync(int fd)
{
	static int	(*real) (int) = NULL;

	FAIL_IF(disk_fault(fd, "eio") ? EIO : 0);
	if (!real)
		real = NEXT(int (*) (int), "fsync");
	return real(fd);
}

/* The port that stands for this one, or itself. */
static int
link_port(int port)
{
	const char *p = getenv("PGQ_LINKS");

	while (p && *p)
	{
		if (atoi(p) == port)
			return (p = strchr(p, '=')) ? atoi(p + 1) : port;
		p = strchr(p, ',');
		p = p ? p + 1 : NULL;
	}
	return port;
}

int
connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	static int	(*real) (int, const struct sockaddr *, socklen_t) = NULL;
	struct sockaddr_in other;

	if (!real)
		real = NEXT(int (*) (int, const struct sockaddr *, socklen_t), "connect");
	if (addr->sa_family != AF_INET || len < sizeof(other))
		return real(fd, addr, len);
	memcpy(&other, addr, sizeof(other));
	if (other.sin_addr.s_addr == htonl(INADDR_LOOPBACK))
		other.sin_port = htons(link_port(ntohs(other.sin_port)));
	return real(fd, (struct sockaddr *) &other, sizeof(other));
}
