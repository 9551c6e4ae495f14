/*-------------------------------------------------------------------------
 *
 * disk_env.c
 *		See disk_env.h.
 *
 *-------------------------------------------------------------------------
 */
#include "disk_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
effect(DiskEnv *de)
{
	de->effects++;
	if (de->dead || de->die_after < 0 || de->die_after-- > 0)
		return;
	de->dead = true;
	de->disk.frozen = true;
}

static int
env_open(void *ctx, const char *path, bool create, bool writable, int *fd)
{
	DiskEnv    *de = ctx;

	(void) writable;
	if (create)
		effect(de);
	*fd = sim_disk_open(&de->disk, path, create);
	return *fd < 0 ? *fd : 0;
}

static int
env_close(void *ctx, int fd)
{
	return sim_disk_close(&((DiskEnv *) ctx)->disk, fd);
}

static int64_t
env_pread(void *ctx, int fd, void *buf, size_t len, uint64_t offset)
{
	return sim_disk_read(&((DiskEnv *) ctx)->disk, fd, offset, buf, len);
}

static int
env_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t offset)
{
	DiskEnv    *de = ctx;
	int64_t		rc;

	effect(de);
	rc = sim_disk_write(&de->disk, fd, offset, buf, len);
	return rc < 0 ? (int) rc : 0;
}

static int
env_fdatasync(void *ctx, int fd)
{
	DiskEnv    *de = ctx;

	effect(de);
	de->syncs++;
	return sim_disk_sync(&de->disk, fd);
}

static int
env_fsync_dir(void *ctx, const char *path)
{
	DiskEnv    *de = ctx;

	(void) path;
	effect(de);
	return sim_disk_sync_names(&de->disk);
}

static int
env_rename(void *ctx, const char *from, const char *to)
{
	effect(ctx);
	return sim_disk_rename(&((DiskEnv *) ctx)->disk, from, to);
}

static int
env_unlink(void *ctx, const char *path)
{
	effect(ctx);
	return sim_disk_unlink(&((DiskEnv *) ctx)->disk, path);
}

static int
env_set_size(void *ctx, int fd, uint64_t size)
{
	effect(ctx);
	return sim_disk_set_size(&((DiskEnv *) ctx)->disk, fd, size);
}

static int64_t
env_size(void *ctx, int fd)
{
	return sim_disk_size(&((DiskEnv *) ctx)->disk, fd);
}

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
	SimDirectory copy = ((DiskEnv *) ctx)->disk.current;
	size_t		len = strlen(path);

	for (int i = 0; i < copy.count; i++)
	{
		if (strncmp(copy.names[i].name, path, len) == 0 && copy.names[i].name[len] == '/')
			name(arg, copy.names[i].name + len + 1);
	}
	return 0;
}

DiskEnv *
disk_env_new(uint64_t seed)
{
	DiskEnv    *de = calloc(1, sizeof(DiskEnv));

	if (de == NULL)
		abort();
	sim_rand_seed(&de->rand, seed);
	sim_disk_init(&de->disk, &de->rand);
	de->die_after = -1;
	de->env = (RlogEnv)
	{
		.ctx = de,
		.open = env_open,
		.close = env_close,
		.pread = env_pread,
		.pwrite = env_pwrite,
		.fdatasync = env_fdatasync,
		.fsync_dir = env_fsync_dir,
		.rename = env_rename,
		.unlink = env_unlink,
		.truncate = env_set_size,
		.allocate = env_set_size,
		.size = env_size,
		.mkdir = env_mkdir,
		.list = env_list,
	};
	return de;
}

void
disk_env_free(DiskEnv *de)
{
	sim_disk_free(&de->disk);
	free(de);
}

void
disk_env_crash(DiskEnv *de, bool keep_cache)
{
	sim_disk_crash(&de->disk, keep_cache);
	de->disk.frozen = false;
	de->dead = false;
	de->die_after = -1;
}
