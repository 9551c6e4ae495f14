/*-------------------------------------------------------------------------
 *
 * sim_disk.c
 *		The fake disk: names, files, unsynced writes, and their loss.
 *
 *-------------------------------------------------------------------------
 */
#include "sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *
xrealloc(void *old, size_t size)
{
	void	   *p = realloc(old, size);

	if (p == NULL)
		abort();
	return p;
}

static void
grow(uint8_t **data, size_t *capacity, size_t want)
{
	size_t		cap = *capacity ? *capacity : 4096;

	if (want <= *capacity)
		return;
	while (cap < want)
		cap *= 2;
	*data = xrealloc(*data, cap);
	memset(*data + *capacity, 0, cap - *capacity);
	*capacity = cap;
}

/* ---------- inodes ---------- */

static SimInode *
inode_new(void)
{
	SimInode   *inode = calloc(1, sizeof(SimInode));

	if (inode == NULL)
		abort();
	inode->pending_tail = &inode->pending;
	return inode;
}

static void
inode_drop_pending(SimInode *inode)
{
	while (inode->pending != NULL)
	{
		SimWrite   *write = inode->pending;

		inode->pending = write->next;
		free(write);
	}
	inode->pending_tail = &inode->pending;
}

static void
inode_release(SimInode *inode)
{
	assert(inode->references > 0);
	if (--inode->references > 0)
		return;
	inode_drop_pending(inode);
	free(inode->current);
	free(inode->durable);
	free(inode);
}

static void
apply_bytes(uint8_t **image, size_t *size, size_t *capacity, uint64_t offset,
			const uint8_t *data, size_t len)
{
	grow(image, capacity, offset + len);
	memcpy(*image + offset, data, len);
	if (offset + len > *size)
		*size = offset + len;
}

static void
apply_size(uint8_t **image, size_t *size, size_t *capacity, uint64_t new_size)
{
	grow(image, capacity, new_size);
	/* bytes beyond the end read as zeros if the file grows again */
	if (new_size < *size)
		memset(*image + new_size, 0, *size - new_size);
	*size = new_size;
}

static void
apply_durable(SimInode *inode, const SimWrite *write)
{
	if (write->set_size)
		apply_size(&inode->durable, &inode->durable_size, &inode->durable_capacity,
				   write->offset);
	else
		apply_bytes(&inode->durable, &inode->durable_size, &inode->durable_capacity,
					write->offset, write->data, write->len);
}

static void
add_pending(SimDisk *disk, SimInode *inode, bool set_size, uint64_t offset,
			const void *data, size_t len)
{
	SimWrite   *write = xrealloc(NULL, sizeof(SimWrite) + len);

	write->next = NULL;
	write->seq = ++disk->write_seq;
	write->offset = offset;
	write->len = len;
	write->set_size = set_size;
	if (len > 0)
		memcpy(write->data, data, len);
	*inode->pending_tail = write;
	inode->pending_tail = &write->next;
}

/* ---------- names ---------- */

static int
find_name(const SimDirectory *dir, const char *name)
{
	for (int i = 0; i < dir->count; i++)
	{
		if (strcmp(dir->names[i].name, name) == 0)
			return i;
	}
	return -1;
}

static void
set_name(SimDirectory *dir, const char *name, SimInode *inode)
{
	int			i = find_name(dir, name);

	inode->references++;
	if (i >= 0)
		inode_release(dir->names[i].inode);
	else
	{
		if (dir->count == SIM_MAX_FILES)
			abort();
		i = dir->count++;
		strcpy(dir->names[i].name, name);
	}
	dir->names[i].inode = inode;
}

static void
drop_name(SimDirectory *dir, const char *name)
{
	int			i = find_name(dir, name);

	if (i < 0)
		return;
	inode_release(dir->names[i].inode);
	dir->names[i] = dir->names[--dir->count];
}

static void
add_journal(SimDisk *disk, SimJournalKind kind, const char *name, const char *new_name,
			SimInode *inode)
{
	SimJournal *entry = calloc(1, sizeof(SimJournal));

	if (entry == NULL)
		abort();
	entry->kind = kind;
	strcpy(entry->name, name);
	if (new_name != NULL)
		strcpy(entry->new_name, new_name);
	entry->inode = inode;
	if (inode != NULL)
		inode->references++;
	*disk->journal_tail = entry;
	disk->journal_tail = &entry->next;
}

/* Make the oldest `count` journal entries durable; forget the rest. */
static void
settle_journal(SimDisk *disk, uint64_t count)
{
	while (disk->journal != NULL)
	{
		SimJournal *entry = disk->journal;

		disk->journal = entry->next;
		if (count > 0)
		{
			count--;
			if (entry->kind == SIM_LINK)
				set_name(&disk->durable, entry->name, entry->inode);
			else if (entry->kind == SIM_UNLINK)
				drop_name(&disk->durable, entry->name);
			else
			{
				set_name(&disk->durable, entry->new_name, entry->inode);
				drop_name(&disk->durable, entry->name);
			}
		}
		else
			disk->names_lost++;
		if (entry->inode != NULL)
			inode_release(entry->inode);
		free(entry);
	}
	disk->journal_tail = &disk->journal;
}

/* ---------- life ---------- */

void
sim_disk_init(SimDisk *disk, SimRand *rand)
{
	memset(disk, 0, sizeof(*disk));
	disk->journal_tail = &disk->journal;
	disk->rand = rand;
}

static void
close_all(SimDisk *disk)
{
	for (int fd = 0; fd < SIM_MAX_FILES; fd++)
	{
		if (disk->open_files[fd] != NULL)
		{
			inode_release(disk->open_files[fd]);
			disk->open_files[fd] = NULL;
		}
	}
}

static void
clear_directory(SimDirectory *dir)
{
	while (dir->count > 0)
		inode_release(dir->names[--dir->count].inode);
}

void
sim_disk_wipe(SimDisk *disk)
{
	close_all(disk);
	settle_journal(disk, 0);
	clear_directory(&disk->current);
	clear_directory(&disk->durable);
	disk->frozen = false;
	disk->fail_next_write = false;
	disk->fail_next_sync = false;
	disk->misdirect_next = false;
	disk->capacity = 0;
}

void
sim_disk_free(SimDisk *disk)
{
	sim_disk_wipe(disk);
}

/* ---------- file operations ---------- */

int
sim_disk_open(SimDisk *disk, const char *name, bool create)
{
	int			i = find_name(&disk->current, name);
	SimInode   *inode;

	if (strlen(name) >= SIM_NAME_LEN)
		return -ENAMETOOLONG;
	if (i < 0 && !create)
		return -ENOENT;
	if (i >= 0)
		inode = disk->current.names[i].inode;
	else
	{
		inode = inode_new();
		inode->references++;	/* until it is open, below */
		if (!disk->frozen)
		{
			set_name(&disk->current, name, inode);
			add_journal(disk, SIM_LINK, name, NULL, inode);
		}
		inode->references--;
	}
	for (int fd = 0; fd < SIM_MAX_FILES; fd++)
	{
		if (disk->open_files[fd] == NULL)
		{
			disk->open_files[fd] = inode;
			inode->references++;
			return fd;
		}
	}
	if (inode->references == 0)
	{
		inode->references++;
		inode_release(inode);
	}
	return -EMFILE;
}

static SimInode *
file_of(SimDisk *disk, int fd)
{
	if (fd < 0 || fd >= SIM_MAX_FILES)
		return NULL;
	return disk->open_files[fd];
}

int
sim_disk_close(SimDisk *disk, int fd)
{
	SimInode   *inode = file_of(disk, fd);

	if (inode == NULL)
		return -EBADF;
	disk->open_files[fd] = NULL;
	inode_release(inode);
	return 0;
}

int64_t
sim_disk_read(SimDisk *disk, int fd, uint64_t offset, void *data, size_t len)
{
	SimInode   *inode = file_of(disk, fd);

	if (inode == NULL)
		return -EBADF;
	if (offset >= inode->size)
		return 0;
	if (len > inode->size - offset)
		len = inode->size - offset;
	memcpy(data, inode->current + offset, len);
	return (int64_t) len;
}

uint64_t
sim_disk_used(const SimDisk *disk)
{
	uint64_t	total = 0;

	for (int i = 0; i < disk->current.count; i++)
		total += disk->current.names[i].inode->size;
	return total;
}

/* Would the file growing to new_size fill the disk? */
static bool
is_full(SimDisk *disk, const SimInode *inode, uint64_t new_size)
{
	if (disk->capacity == 0 || new_size <= inode->size)
		return false;
	if (sim_disk_used(disk) + (new_size - inode->size) <= disk->capacity)
		return false;
	disk->full_given++;
	return true;
}

int64_t
sim_disk_write(SimDisk *disk, int fd, uint64_t offset, const void *data, size_t len)
{
	SimInode   *inode = file_of(disk, fd);

	if (inode == NULL)
		return -EBADF;
	if (disk->frozen)
		return (int64_t) len;
	if (disk->fail_next_write)
	{
		disk->fail_next_write = false;
		disk->errors_given++;
		return -EIO;
	}
	if (is_full(disk, inode, offset + len))
		return -ENOSPC;
	if (disk->misdirect_next && inode->size > SIM_SECTOR)
	{
		/* the drive acknowledges, and writes to another sector of the file */
		disk->misdirect_next = false;
		disk->misdirected++;
		offset = sim_below(disk->rand, inode->size / SIM_SECTOR) * SIM_SECTOR;
	}
	disk->writes++;
	apply_bytes(&inode->current, &inode->size, &inode->capacity, offset, data, len);
	add_pending(disk, inode, false, offset, data, len);
	return (int64_t) len;
}

int
sim_disk_set_size(SimDisk *disk, int fd, uint64_t size)
{
	SimInode   *inode = file_of(disk, fd);

	if (inode == NULL)
		return -EBADF;
	if (disk->frozen)
		return 0;
	if (is_full(disk, inode, size))
		return -ENOSPC;
	apply_size(&inode->current, &inode->size, &inode->capacity, size);
	add_pending(disk, inode, true, size, NULL, 0);
	return 0;
}

int64_t
sim_disk_size(SimDisk *disk, int fd)
{
	SimInode   *inode = file_of(disk, fd);

	return inode == NULL ? -EBADF : (int64_t) inode->size;
}

uint64_t
sim_disk_sync_begin(const SimDisk *disk)
{
	return disk->write_seq;
}

int
sim_disk_sync_end(SimDisk *disk, int fd, uint64_t seq)
{
	SimInode   *inode = file_of(disk, fd);

	if (inode == NULL)
		return -EBADF;
	if (disk->frozen)
		return 0;
	if (disk->fail_next_sync)
	{
		/*
		 * What Linux does: the dirty pages are marked clean all the same, so
		 * a second fsync succeeds although the data never got there.
		 */
		disk->fail_next_sync = false;
		disk->errors_given++;
		inode_drop_pending(inode);
		return -EIO;
	}
	disk->syncs++;
	while (inode->pending != NULL && inode->pending->seq <= seq)
	{
		SimWrite   *write = inode->pending;

		apply_durable(inode, write);
		inode->pending = write->next;
		free(write);
	}
	if (inode->pending == NULL)
		inode->pending_tail = &inode->pending;
	return 0;
}

int
sim_disk_sync(SimDisk *disk, int fd)
{
	return sim_disk_sync_end(disk, fd, sim_disk_sync_begin(disk));
}

int
sim_disk_rename(SimDisk *disk, const char *from, const char *to)
{
	int			i = find_name(&disk->current, from);
	SimInode   *inode;

	if (i < 0)
		return -ENOENT;
	if (strlen(to) >= SIM_NAME_LEN)
		return -ENAMETOOLONG;
	if (disk->frozen)
		return 0;
	inode = disk->current.names[i].inode;
	add_journal(disk, SIM_RENAME, from, to, inode);
	set_name(&disk->current, to, inode);
	drop_name(&disk->current, from);
	return 0;
}

int
sim_disk_unlink(SimDisk *disk, const char *name)
{
	if (find_name(&disk->current, name) < 0)
		return -ENOENT;
	if (disk->frozen)
		return 0;
	add_journal(disk, SIM_UNLINK, name, NULL, NULL);
	drop_name(&disk->current, name);
	return 0;
}

int
sim_disk_sync_names(SimDisk *disk)
{
	if (disk->frozen)
		return 0;
	if (disk->fail_next_sync)
	{
		disk->fail_next_sync = false;
		disk->errors_given++;
		return -EIO;
	}
	disk->syncs++;
	settle_journal(disk, UINT64_MAX);
	return 0;
}

/* ---------- what a power cut leaves ---------- */

/* Some sectors of the write arrive and others do not. */
static void
apply_torn(SimDisk *disk, SimInode *inode, const SimWrite *write)
{
	uint64_t	pos = write->offset;
	uint64_t	end = write->offset + write->len;

	while (pos < end)
	{
		uint64_t	next = (pos / SIM_SECTOR + 1) * SIM_SECTOR;

		if (next > end)
			next = end;
		if (sim_chance(disk->rand, SIM_PPM / 2))
			apply_bytes(&inode->durable, &inode->durable_size, &inode->durable_capacity,
						pos, write->data + (pos - write->offset), next - pos);
		pos = next;
	}
	disk->writes_torn++;
}

static void
crash_inode(SimDisk *disk, SimInode *inode)
{
	/* three kinds of luck: all lost, all kept, each by itself */
	uint64_t	mood = sim_below(disk->rand, 4);

	while (inode->pending != NULL)
	{
		SimWrite   *write = inode->pending;
		uint64_t	fate = mood == 0 ? 0 : mood == 1 ? 1 : sim_below(disk->rand, 3);

		if (fate == 0)
			disk->writes_lost++;
		else if (fate == 1 || write->set_size)
			apply_durable(inode, write);
		else
			apply_torn(disk, inode, write);
		inode->pending = write->next;
		free(write);
	}
	inode->pending_tail = &inode->pending;

	grow(&inode->current, &inode->capacity, inode->durable_size);
	if (inode->capacity > 0)
		memset(inode->current, 0, inode->capacity);
	if (inode->durable_size > 0)
		memcpy(inode->current, inode->durable, inode->durable_size);
	inode->size = inode->durable_size;
}

static uint64_t
journal_length(const SimDisk *disk)
{
	uint64_t	count = 0;

	for (const SimJournal *entry = disk->journal; entry != NULL; entry = entry->next)
		count++;
	return count;
}

void
sim_disk_crash(SimDisk *disk, bool keep_all)
{
	close_all(disk);
	disk->frozen = false;
	disk->fail_next_write = false;
	disk->fail_next_sync = false;
	disk->misdirect_next = false;
	if (keep_all)
		return;

	settle_journal(disk, sim_between(disk->rand, 0, journal_length(disk)));
	clear_directory(&disk->current);
	for (int i = 0; i < disk->durable.count; i++)
	{
		crash_inode(disk, disk->durable.names[i].inode);
		set_name(&disk->current, disk->durable.names[i].name,
				 disk->durable.names[i].inode);
	}
}

bool
sim_disk_rot(SimDisk *disk, const char *prefix, char *name, uint64_t *offset)
{
	for (int attempt = 0; attempt < 200; attempt++)
	{
		SimInode   *inode;
		uint64_t	at;
		uint8_t		bit;
		int			i;

		if (disk->durable.count == 0)
			return false;
		i = (int) sim_below(disk->rand, (uint64_t) disk->durable.count);
		inode = disk->durable.names[i].inode;
		if (strncmp(disk->durable.names[i].name, prefix, strlen(prefix)) != 0 ||
			inode->durable_size == 0 || inode->size < inode->durable_size)
			continue;
		at = sim_below(disk->rand, inode->durable_size);
		if (inode->durable[at] == 0 || inode->durable[at] != inode->current[at])
			continue;
		bit = (uint8_t) (1 << sim_below(disk->rand, 8));
		inode->durable[at] ^= bit;
		inode->current[at] ^= bit;
		strcpy(name, disk->durable.names[i].name);
		*offset = at;
		return true;
	}
	return false;
}
