/*-------------------------------------------------------------------------
 *
 * rejoin.c
 *		Files of a server that was a member, or is a copy of one, and becomes a
 *		new member with the tables that it has.
 *
 *		pg_quorum/member		whose data directory this is (RejoinMember), so that a
 *								copy is known by its name even where the copied log
 *								is torn. Written by a member that runs
 *		pg_quorum/instance.new	the new identity; written once, durable before anybody
 *								is told of it, so that a server that asks again after
 *								a crash is recognised as the one that was added
 *		pg_quorum/log.new		the new log, complete before the next step
 *		pg_quorum/log.old		renamed from log. From its presence on it is decided,
 *								and what follows can be done again by anybody who
 *								finds it (rejoin_finish):
 *									log.new -> log, removed goes, instance.new ->
 *									instance, log.old goes
 *
 * rejoin_finish() runs in the Raft worker, and in the postmaster when shared
 * memory is made: before anybody looks whether there is a log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "node/worker.h"

#define MEMBER_FILE			NODE_DIRECTORY "/member"
#define NEW_INSTANCE_FILE	WORKER_INSTANCE_FILE ".new"
#define NEW_LOG_DIRECTORY	NODE_DIRECTORY "/log.new"
#define OLD_LOG_DIRECTORY	NODE_DIRECTORY "/log.old"

/* ---------- whose data directory this is ---------- */

bool
rejoin_read_member(RejoinMember *member)
{
	int			fd = open(MEMBER_FILE, O_RDONLY | PG_BINARY);
	ssize_t		len;

	if (fd < 0)
		return false;
	len = read(fd, member, sizeof(*member));
	close(fd);
	member->name[sizeof(member->name) - 1] = '\0';
	return len == sizeof(*member) && member->magic == REJOIN_MAGIC;
}

void
rejoin_write_member(const Worker *w)
{
	RejoinMember member;
	RejoinMember old;
	int			failed;

	memset(&member, 0, sizeof(member));
	member.magic = REJOIN_MAGIC;
	member.id = w->id;
	memcpy(member.cluster_id, w->cluster_id, sizeof(member.cluster_id));
	strlcpy(member.name, quorum_node_name, sizeof(member.name));
	if (rejoin_read_member(&old) && memcmp(&old, &member, sizeof(member)) == 0)
		return;
	failed = worker_write_file(MEMBER_FILE, &member, sizeof(member));
	if (failed != 0)
		ereport(LOG,
				(errmsg("could not write file \"%s\": %s", MEMBER_FILE, strerror(failed))));
}

/* ---------- the new identity ---------- */

bool
rejoin_instance(uint8 *instance, char *error)
{
	int			fd = open(NEW_INSTANCE_FILE, O_RDONLY | PG_BINARY);
	int			failed;

	if (fd >= 0)
	{
		ssize_t		len = read(fd, instance, RAFT_INSTANCE_LEN);

		close(fd);
		if (len == RAFT_INSTANCE_LEN)
			return true;
	}
	if (!pg_strong_random(instance, RAFT_INSTANCE_LEN))
	{
		strlcpy(error, "could not get random bytes", NODE_DETAIL_LEN);
		return false;
	}
	failed = worker_write_file(NEW_INSTANCE_FILE, instance, RAFT_INSTANCE_LEN);
	if (failed != 0)
		snprintf(error, NODE_DETAIL_LEN, "could not write file \"%s\": %s",
				 NEW_INSTANCE_FILE, strerror(failed));
	return failed == 0;
}

/* ---------- the change ---------- */

static bool
there(const char *path)
{
	return access(path, F_OK) == 0;
}

void
rejoin_finish(void)
{
	if (!there(OLD_LOG_DIRECTORY))
		return;
	if (!there(NODE_LOG_DIRECTORY) && rename(NEW_LOG_DIRECTORY, NODE_LOG_DIRECTORY) != 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not rename \"%s\" to \"%s\": %m", NEW_LOG_DIRECTORY, NODE_LOG_DIRECTORY)));
		return;
	}
	if (unlink(WORKER_REMOVED_FILE) != 0 && errno != ENOENT)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", WORKER_REMOVED_FILE)));
	(void) unlink(MEMBER_FILE);
	if (there(NEW_INSTANCE_FILE) && rename(NEW_INSTANCE_FILE, WORKER_INSTANCE_FILE) != 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not rename \"%s\" to \"%s\": %m", NEW_INSTANCE_FILE, WORKER_INSTANCE_FILE)));
	fsync_fname(NODE_DIRECTORY, true);
	if (!rmtree(OLD_LOG_DIRECTORY, true))
		ereport(LOG, (errmsg("could not remove directory \"%s\"", OLD_LOG_DIRECTORY)));
}

/* The new log is complete: it takes the old one's place. False: errno. */
bool
rejoin_swap(void)
{
	if (rename(NODE_LOG_DIRECTORY, OLD_LOG_DIRECTORY) != 0)
		return false;
	fsync_fname(NODE_DIRECTORY, true);
	rejoin_finish();
	return there(NODE_LOG_DIRECTORY);
}
