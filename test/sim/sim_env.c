/*-------------------------------------------------------------------------
 *
 * sim_env.c
 *		RlogEnv over the fake disk, and the point where a process dies.
 *
 * Every operation that changes something counts as an effect. When the planned
 * number of effects has been used up the disk freezes: from there on nothing
 * that the process does reaches the world, and the event loop buries it.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <errno.h>
#include <string.h>

bool
sim_effect(SimNode *node, const char *what)
{
	if (node->dying)
		return true;
	if (node->crash_after < 0 || node->crash_after-- > 0)
		return false;
	sim_trace(node->world, "n%u dies before: %s", node->id, what);
	node->dying = true;
	node->disk.frozen = true;
	node->world->stats.effect_crashes++;
	return true;
}

static int
env_open(void *ctx, const char *path, bool create, bool writable, int *fd)
{
	SimNode    *node = ctx;
	int			rc;

	(void) writable;
	if (create)
		(void) sim_effect(node, "create a file");
	rc = sim_disk_open(&node->disk, path, create);
	if (rc < 0)
		return rc;
	*fd = rc;
	return 0;
}

static int
env_close(void *ctx, int fd)
{
	return sim_disk_close(&((SimNode *) ctx)->disk, fd);
}

static int64_t
env_pread(void *ctx, int fd, void *buf, size_t len, uint64_t offset)
{
	return sim_disk_read(&((SimNode *) ctx)->disk, fd, offset, buf, len);
}

static int
env_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t offset)
{
	SimNode    *node = ctx;
	int64_t		rc;

	(void) sim_effect(node, "write");
	rc = sim_disk_write(&node->disk, fd, offset, buf, len);
	return rc < 0 ? (int) rc : 0;
}

static int
env_fdatasync(void *ctx, int fd)
{
	SimNode    *node = ctx;

	(void) sim_effect(node, "fdatasync");
	return sim_disk_sync(&node->disk, fd);
}

static int
env_fsync_dir(void *ctx, const char *path)
{
	SimNode    *node = ctx;

	(void) path;
	(void) sim_effect(node, "fsync of the directory");
	return sim_disk_sync_names(&node->disk);
}

static int
env_rename(void *ctx, const char *from, const char *to)
{
	SimNode    *node = ctx;

	(void) sim_effect(node, "rename");
	return sim_disk_rename(&node->disk, from, to);
}

static int
env_unlink(void *ctx, const char *path)
{
	SimNode    *node = ctx;

	(void) sim_effect(node, "unlink");
	return sim_disk_unlink(&node->disk, path);
}

static int
env_truncate(void *ctx, int fd, uint64_t size)
{
	SimNode    *node = ctx;

	(void) sim_effect(node, "truncate");
	return sim_disk_set_size(&node->disk, fd, size);
}

static int
env_allocate(void *ctx, int fd, uint64_t size)
{
	SimNode    *node = ctx;

	(void) sim_effect(node, "allocate");
	if (sim_disk_size(&node->disk, fd) >= (int64_t) size)
		return 0;
	return sim_disk_set_size(&node->disk, fd, size);
}

static int64_t
env_size(void *ctx, int fd)
{
	return sim_disk_size(&((SimNode *) ctx)->disk, fd);
}

/*
 * The one directory there is. That it exists is part of the machine's setup,
 * as in production, where an ancestor always does.
 */
static int
env_mkdir(void *ctx, const char *path)
{
	(void) ctx;
	(void) path;
	return 0;
}

static int
env_list(void *ctx, const char *path, void (*name) (void *arg, const char *name), void *arg)
{
	SimDisk    *disk = &((SimNode *) ctx)->disk;
	size_t		len = strlen(path);
	char		names[SIM_MAX_FILES][SIM_NAME_LEN];
	int			count = 0;

	/* the callback may unlink: list from a copy */
	for (int i = 0; i < disk->current.count; i++)
	{
		const char *file = disk->current.names[i].name;

		if (strncmp(file, path, len) == 0 && file[len] == '/')
			strcpy(names[count++], file + len + 1);
	}
	for (int i = 0; i < count; i++)
		name(arg, names[i]);
	return 0;
}

void
sim_env_init(SimNode *node)
{
	node->env = (RlogEnv)
	{
		.ctx = node,
		.open = env_open,
		.close = env_close,
		.pread = env_pread,
		.pwrite = env_pwrite,
		.fdatasync = env_fdatasync,
		.fsync_dir = env_fsync_dir,
		.rename = env_rename,
		.unlink = env_unlink,
		.truncate = env_truncate,
		.allocate = env_allocate,
		.size = env_size,
		.mkdir = env_mkdir,
		.list = env_list,
	};
	node->crash_after = -1;
}
