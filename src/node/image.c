/*-------------------------------------------------------------------------
 *
 * image.c
 *		Images, the side of sessions and of the apply worker; and the mark on
 *		disk that says that this server's tables wait for one.
 *
 * The mark
 *		pg_quorum/image		written by rename and fsync, so it is whole or not there:
 *			offset	size
 *			0		4		magic "PQI1"
 *			4		4		phase (ImagePhase)
 *			8		8		index
 *			16		8		term
 *			24		8		index of the configuration
 *			32		4		length of the configuration
 *			36		4		CRC-32C of all that comes before it and of the rest
 *			40				configuration (raft_conf_encode)
 *		Integers are in this machine's byte order: the file never travels.
 *
 * Who writes it, and what a crash leaves
 *		Raft worker		WANTED, before a joining server's log is made: from then on
 *						its tables are not what the log begins with.
 *		apply worker	LOADED, before the transaction that ends the loading commits.
 *						The replication origin's progress, part of that commit, says
 *						after a crash whether it did.
 *		Raft worker		removes it, once the log begins where the tables stand.
 * While it is there nothing is applied from the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "node/node_internal.h"

#define IMAGE_MAGIC			0x31495150	/* "PQI1" */
#define IMAGE_REQUEST_MS	60000

typedef struct ImageFile
{
	uint32		magic;
	uint32		phase;
	uint64		index;
	uint64		term;
	uint64		conf_index;
	uint32		conf_len;
	pg_crc32c	crc;
} ImageFile;

/* ---------- the mark: nothing here throws ---------- */

static pg_crc32c
checksum(const ImageFile *head, const char *conf)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, head, offsetof(ImageFile, crc));
	COMP_CRC32C(crc, conf, head->conf_len);
	FIN_CRC32C(crc);
	return crc;
}

static bool
failed(char *error, const char *what)
{
	snprintf(error, NODE_DETAIL_LEN, "could not %s file \"%s\": %s", what, NODE_IMAGE_FILE,
			 strerror(errno));
	return false;
}

/* Durable when it returns true; else error (NODE_DETAIL_LEN) says why not. */
bool
node_image_mark_write(ImagePhase phase, const NodeImagePoint *point, char *error)
{
	ImageFile	head;
	int			fd;
	bool		good;

	memset(&head, 0, sizeof(head));
	head.magic = IMAGE_MAGIC;
	head.phase = phase;
	head.index = point->index;
	head.term = point->term;
	head.conf_index = point->conf_index;
	head.conf_len = point->conf_len;
	head.crc = checksum(&head, point->conf);
	fd = open(NODE_IMAGE_FILE ".tmp", O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
		return failed(error, "create");
	errno = ENOSPC;				/* in case of a short write */
	good = write(fd, &head, sizeof(head)) == sizeof(head) &&
		write(fd, point->conf, head.conf_len) == (ssize_t) head.conf_len &&
		pg_fsync(fd) == 0;
	if (!good)
		(void) failed(error, "write");
	close(fd);
	if (!good)
		return false;
	errno = EIO;
	return durable_rename(NODE_IMAGE_FILE ".tmp", NODE_IMAGE_FILE, LOG) == 0 ||
		failed(error, "rename");
}

/*
 * False: there is none (error is empty), or it cannot be read. point->conf is
 * malloc'ed, or NULL.
 */
bool
node_image_mark_read(ImagePhase *phase, NodeImagePoint *point, char *error)
{
	int			fd = open(NODE_IMAGE_FILE, O_RDONLY | PG_BINARY);
	ImageFile	head;
	char	   *conf = NULL;
	bool		good = false;

	error[0] = '\0';
	memset(point, 0, sizeof(*point));
	if (fd < 0)
		return errno != ENOENT ? failed(error, "open") : false;
	errno = EINVAL;				/* in case it is too short, or damaged */
	if (read(fd, &head, sizeof(head)) == sizeof(head) && head.magic == IMAGE_MAGIC &&
		head.conf_len <= RLOG_MAX_CONF && (conf = malloc(head.conf_len + 1)) != NULL &&
		read(fd, conf, head.conf_len) == (ssize_t) head.conf_len &&
		checksum(&head, conf) == head.crc &&
		(head.phase == IMAGE_WANTED || head.phase == IMAGE_LOADED))
		good = true;
	else
		(void) failed(error, "read");
	close(fd);
	if (!good)
	{
		free(conf);
		return false;
	}
	*phase = head.phase;
	point->index = head.index;
	point->term = head.term;
	point->conf_index = head.conf_index;
	point->conf_len = head.conf_len;
	point->conf = conf;
	return true;
}

void
node_image_mark_remove(void)
{
	if (unlink(NODE_IMAGE_FILE) != 0)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not remove file \"%s\": %m", NODE_IMAGE_FILE)));
		return;
	}
	fsync_fname(NODE_DIRECTORY, true);
}

/* Does this server wait for an image? As the disk says; for who makes shared memory. */
bool
node_image_is_marked(void)
{
	return access(NODE_IMAGE_FILE, F_OK) == 0;
}

/* ---------- what is wanted, and who has it ---------- */

bool
node_image_wanted(uint64 *least)
{
	if (node_shared == NULL || pg_atomic_read_u32(&node_shared->image_wanted) == 0)
		return false;
	pg_read_barrier();
	*least = pg_atomic_read_u64(&node_shared->image_least);
	return true;
}

/* May the tables that are here, if any, serve as the image? Only where a server joins. */
bool
node_image_may_adopt(void)
{
	return pg_atomic_read_u32(&node_shared->image_wanted) == 2;
}

/* What was published of a former log does not count any more. Nothing is published now. */
void
node_image_adopted(void)
{
	pg_atomic_write_u64(&node_shared->commit_index, pg_atomic_read_u64(&node_shared->applied_index));
}

/* Followers before the leader, who has enough to do; among them the furthest. */
static int
compare_sources(const void *a, const void *b)
{
	const NodeImageSource *x = a;
	const NodeImageSource *y = b;

	if (x->is_leader != y->is_leader)
		return x->is_leader ? 1 : -1;
	if (x->applied_index != y->applied_index)
		return x->applied_index > y->applied_index ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

NodeImageSource *
node_image_sources(int *count)
{
	NodeImageSource *sources = palloc(sizeof(NodeImageSource) * NODE_MAX_MEMBERS);
	int			n = 0;

	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	for (int i = 0; i < node_shared->status.nmembers; i++)
	{
		const NodeMemberStatus *m = &node_shared->status.members[i];

		if (m->id == node_id() || m->is_learner || !m->reachable || !m->has_applied ||
			m->sql.port == 0)
			continue;
		sources[n].sql = m->sql;
		sources[n].id = m->id;
		sources[n].is_leader = m->is_leader;
		sources[n].applied_index = m->applied_index;
		n++;
	}
	LWLockRelease(node_shared->status_lock);
	qsort(sources, n, sizeof(NodeImageSource), compare_sources);
	*count = n;
	return sources;
}

/* ---------- the source ---------- */

static void
image_request(NodeRequestKind kind, const void *data, Size len, NodeAnswer *answer)
{
	int			sqlstate;
	NodeVerdict verdict = node_request(kind, data, len, IMAGE_REQUEST_MS, answer, &sqlstate);

	if (verdict == NODE_UNAVAILABLE || verdict == NODE_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the Raft worker did not answer"),
				 errhint("See the server log and column detail of quorum.status.")));
	if (sqlstate != 0)
		ereport(ERROR, (errcode(sqlstate), errmsg("%s", answer->message)));
}

void
node_image_position(uint64 index, NodeImagePoint *point)
{
	NodeAnswer	answer;

	memset(point, 0, sizeof(*point));
	image_request(NODE_REQ_IMAGE_AT, &index, sizeof(index), &answer);
	point->index = index;
	point->term = answer.index;
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	point->conf_index = node_shared->image_conf_index;
	point->conf_len = node_shared->image_conf_len;
	point->conf = palloc(point->conf_len + 1);
	memcpy(point->conf, node_shared->image_conf, point->conf_len);
	LWLockRelease(node_shared->status_lock);
	if (point->term == 0 || point->conf_index > index || point->conf_len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("an image cannot be given at entry " UINT64_FORMAT, index),
				 errdetail(point->term == 0 ? "That entry is not in this member's log." :
						   "The membership was changed after it."),
				 errhint("Begin a new transaction.")));
}

uint64
node_image_term(uint64 index)
{
	NodeAnswer	answer;

	image_request(NODE_REQ_IMAGE_AT, &index, sizeof(index), &answer);
	return answer.index;
}

/* ---------- the receiver ---------- */

static void
send_point(NodeRequestKind kind, const NodeImagePoint *point)
{
	Size		len = 3 * sizeof(uint64) + point->conf_len;
	char	   *data = palloc(len);
	NodeAnswer	answer;

	memcpy(data, &point->index, sizeof(uint64));
	memcpy(data + sizeof(uint64), &point->term, sizeof(uint64));
	memcpy(data + 2 * sizeof(uint64), &point->conf_index, sizeof(uint64));
	memcpy(data + 3 * sizeof(uint64), point->conf, point->conf_len);
	image_request(kind, data, len, &answer);
	pfree(data);
}

void
node_image_begun(const NodeImagePoint *point)
{
	pg_atomic_write_u64(&node_shared->image_hold, point->index);
	send_point(NODE_REQ_IMAGE_BEGUN, point);
}

void
node_image_loaded(const NodeImagePoint *point)
{
	char		error[NODE_DETAIL_LEN];

	if (!node_image_mark_write(IMAGE_LOADED, point, error))
		ereport(ERROR, (errcode(ERRCODE_IO_ERROR), errmsg("%s", error)));
}

void
node_image_done(const NodeImagePoint *point)
{
	send_point(NODE_REQ_IMAGE_DONE, point);
}

void
node_image_over(void)
{
	pg_atomic_write_u64(&node_shared->image_hold, 0);
}

bool
node_image_was_loaded(NodeImagePoint *point)
{
	ImagePhase	phase;
	char		error[NODE_DETAIL_LEN];

	return node_image_mark_read(&phase, point, error) && phase == IMAGE_LOADED;
}
