/*-------------------------------------------------------------------------
 *
 * secret.c
 *		Reading quorum.secret_file.
 *
 * Everything is checked on the open file, not on the name, so that nothing can
 * be exchanged in between; opened without waiting, so that a pipe by that name
 * cannot hold the worker up.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/transport.h"

static TpSecretStatus
check_file(int fd, const char *path, char *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
	{
		snprintf(error, TP_TEXT_LEN, "could not stat secret file \"%.150s\": %s", path,
				 strerror(errno));
		return TP_SECRET_CANNOT_READ;
	}
	if (!S_ISREG(st.st_mode))
	{
		snprintf(error, TP_TEXT_LEN, "secret file \"%.150s\" is not a regular file", path);
		return TP_SECRET_NOT_A_FILE;
	}
	if (st.st_uid != geteuid())
	{
		snprintf(error, TP_TEXT_LEN,
				 "secret file \"%.150s\" must be owned by the user that runs the server",
				 path);
		return TP_SECRET_WRONG_OWNER;
	}
	if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		snprintf(error, TP_TEXT_LEN,
				 "secret file \"%.150s\" has group or world access; "
				 "its permissions must be u=rw (0600) or less", path);
		return TP_SECRET_WRONG_MODE;
	}
	return TP_SECRET_OK;
}

/* Up to max bytes; -1 with errno set. */
static ssize_t
read_all(int fd, uint8_t *bytes, size_t max)
{
	size_t		have = 0;

	while (have < max)
	{
		ssize_t		n = read(fd, bytes + have, max - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		have += (size_t) n;
	}
	return (ssize_t) have;
}

static TpSecretStatus
check_length(const char *path, size_t len, char *error)
{
	if (len > TP_SECRET_MAX_BYTES)
	{
		snprintf(error, TP_TEXT_LEN, "secret file \"%.150s\" is longer than %d bytes", path,
				 TP_SECRET_MAX_BYTES);
		return TP_SECRET_TOO_LONG;
	}
	if (len < TP_SECRET_MIN_BYTES)
	{
		snprintf(error, TP_TEXT_LEN,
				 "the secret in file \"%.150s\" is shorter than %d bytes", path,
				 TP_SECRET_MIN_BYTES);
		return TP_SECRET_TOO_SHORT;
	}
	return TP_SECRET_OK;
}

TpSecretStatus
tp_read_secret_file(const char *path, uint8_t *secret, size_t *len, char *error)
{
	uint8_t		bytes[TP_SECRET_MAX_BYTES + 3]; /* newline, and one too many */
	TpSecretStatus status;
	ssize_t		n;
	int			fd;

	*len = 0;
	error[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
	{
		snprintf(error, TP_TEXT_LEN, "could not open secret file \"%.150s\": %s", path,
				 strerror(errno));
		return TP_SECRET_CANNOT_READ;
	}
	status = check_file(fd, path, error);
	if (status == TP_SECRET_OK)
	{
		n = read_all(fd, bytes, sizeof(bytes));
		if (n < 0)
		{
			snprintf(error, TP_TEXT_LEN, "could not read secret file \"%.150s\": %s", path,
					 strerror(errno));
			status = TP_SECRET_CANNOT_READ;
		}
		else
		{
			/* Editors and echo end a file with a newline; openssl rand too. */
			if (n > 0 && bytes[n - 1] == '\n')
				n--;
			if (n > 0 && bytes[n - 1] == '\r')
				n--;
			status = check_length(path, (size_t) n, error);
			if (status == TP_SECRET_OK)
			{
				memcpy(secret, bytes, (size_t) n);
				*len = (size_t) n;
			}
		}
		OPENSSL_cleanse(bytes, sizeof(bytes));
	}
	close(fd);
	return status;
}
