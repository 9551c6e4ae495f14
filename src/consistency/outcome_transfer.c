/*-------------------------------------------------------------------------
 *
 * outcome_transfer.c
 *		The archive of outcomes on its way to a member that gets an image: the log
 *		that it covers is not on that member, and never will be.
 *
 * Fetched file by file over the image's connection into a folder of its own, the
 * horizon last; the keeper finds it there and takes it over (tok_adopt). Entries
 * that both members have are the same, so it does no harm when the image
 * itself fails later. The giving member first brings its archive up to what it
 * has applied, which the image cannot be above; if that takes too long, or
 * it has no archive, the new member goes without, and asks others when asked.
 *
 * Segments may be merged or expire while they are fetched: one that is gone is
 * listed anew under its other name. What is missing in the end is a hole, about
 * which nothing will be said.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/file_perm.h"
#include "common/file_utils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "consistency/outcome.h"
#include "node/node.h"
#include "replication/guests.h"
#include "replication/image_internal.h"

PG_FUNCTION_INFO_V1(quorum_outcome_files);
PG_FUNCTION_INFO_V1(quorum_outcome_file);

#define HORIZON			"horizon"
#define SEGMENT_LEN		33		/* of its name */
#define PATIENCE_US		INT64CONST(5000000)
#define ROUNDS			3

/* No path, and nothing else that lies in that folder. */
static bool
is_archive_file(const char *name)
{
	if (strcmp(name, HORIZON) == 0)
		return true;
	return strlen(name) == SEGMENT_LEN && name[16] == '-' &&
		strspn(name, "0123456789ABCDEF") == 16 &&
		strspn(name + 17, "0123456789ABCDEF") == 16;
}

/* ---------- the giving member ---------- */

static void
bring_up_to_date(void)
{
	uint64		wanted = node_applied_index();
	int64		deadline_us = node_monotonic_us() + PATIENCE_US;

	while (node_archived_index() < wanted && node_monotonic_us() < deadline_us)
	{
		node_want_archived(wanted);
		node_pause(10L);
	}
}

/*
 * _outcome_files() - names of the archive's files
 */
Datum
quorum_outcome_files(PG_FUNCTION_ARGS)
{
	char	   *path;
	DIR		   *dir;
	struct dirent *entry;
	ArrayBuildState *names = initArrayResult(TEXTOID, CurrentMemoryContext, false);

	node_require_member();
	bring_up_to_date();
	path = node_outcome_dir();
	dir = AllocateDir(path);
	while (dir != NULL && (entry = ReadDir(dir, path)) != NULL)
		if (is_archive_file(entry->d_name))
			names = accumArrayResult(names, CStringGetTextDatum(entry->d_name), false,
									 TEXTOID, CurrentMemoryContext);
	if (dir != NULL)
		FreeDir(dir);
	PG_RETURN_DATUM(makeArrayResult(names, CurrentMemoryContext));
}

/*
 * _outcome_file(name) - its content; NULL when it is gone
 */
Datum
quorum_outcome_file(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *path;
	int			fd;
	struct stat st;
	bytea	   *content;
	ssize_t		n;

	if (!is_archive_file(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is no file of the archive of outcomes", name)));
	path = psprintf("%s/%s", node_outcome_dir(), name);
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 && errno == ENOENT)
		PG_RETURN_NULL();
	if (fd < 0 || fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	content = palloc(VARHDRSZ + st.st_size);
	n = read(fd, VARDATA(content), st.st_size);
	if (n < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	SET_VARSIZE(content, VARHDRSZ + n);
	CloseTransientFile(fd);
	PG_RETURN_BYTEA_P(content);
}

/* ---------- the new member ---------- */

static void
write_file(const char *dir, const char *name, const char *hex)
{
	char	   *path = psprintf("%s/%s", dir, name);
	Size		len = strlen(hex) / 2;
	char	   *content = palloc(len + 1);
	int			fd;

	len = hex_decode(hex, strlen(hex), content);
	fd = OpenTransientFilePerm(path, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	if (fd < 0 || write(fd, content, len) != (ssize_t) len || pg_fsync(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
	CloseTransientFile(fd);
	pfree(content);
	pfree(path);
}

/* False: the file is gone there. */
static bool
fetch_file(PGconn *conn, const char *dir, const char *name)
{
	ImageRows  *rows = image_query(conn, psprintf("SELECT encode(quorum._outcome_file(%s), 'hex')",
												  quote_literal_cstr(name)));
	bool		there = rows->n == 1 && image_value(rows, 0, 0) != NULL;

	if (there)
	{
		write_file(dir, name, image_value(rows, 0, 0));
		pfree(image_value(rows, 0, 0));
	}
	return there;
}

static bool
have_file(const char *dir, const char *name)
{
	char	   *path = psprintf("%s/%s", dir, name);
	bool		have = access(path, F_OK) == 0;

	pfree(path);
	return have;
}

/* All segments that there are. False: one was gone. */
static bool
fetch_segments(PGconn *conn, const char *dir)
{
	ImageRows  *rows = image_query(conn, "SELECT unnest(quorum._outcome_files())");
	bool		all = true;

	for (int i = 0; i < rows->n; i++)
	{
		const char *name = image_value(rows, i, 0);

		CHECK_FOR_INTERRUPTS();
		if (name == NULL || !is_archive_file(name) || strcmp(name, HORIZON) == 0 ||
			have_file(dir, name))
			continue;
		if (!fetch_file(conn, dir, name))
			all = false;
	}
	return all;
}

static void
fetch_archive(void *conn)
{
	char	   *dir = node_outcome_fetched_dir();

	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true);
	if (MakePGDirectory(dir) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", dir)));
	for (int round = 0; round < ROUNDS && !fetch_segments(conn, dir); round++)
		;
	fsync_fname(dir, true);
	(void) fetch_file(conn, dir, HORIZON);
	fsync_fname(dir, true);
	pfree(dir);
}

void
outcome_install(void)
{
	image_guest.fetch = fetch_archive;
}
