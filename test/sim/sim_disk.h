/*-------------------------------------------------------------------------
 *
 * sim_disk.h
 *		A disk that forgets: one per node, files in one flat name space.
 *
 * Each file has two images. `current` is what reads see (the page cache);
 * `durable` is what a power cut cannot take. A write changes current and goes
 * on the file's list of pending writes; a sync moves the writes that were made
 * before the sync began into durable. At a crash every pending write survives,
 * is lost or is torn at sector boundaries, each by itself: that is both loss
 * and reordering of unsynced writes. Names work the same way: create, rename
 * and unlink are journalled in order and a crash keeps some prefix of what no
 * directory sync has covered.
 *
 * A frozen disk belongs to a process that is dead but has not returned yet: it
 * accepts everything and keeps nothing. That is how a crash can be put between
 * any two effects of the code under test.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim_rand.h"

#define SIM_SECTOR 512
#define SIM_NAME_LEN 128
#define SIM_MAX_FILES 1024

typedef struct SimWrite
{
	struct SimWrite *next;
	uint64_t	seq;
	uint64_t	offset;
	size_t		len;
	bool		set_size;		/* truncate or extend to offset; no data */
	uint8_t		data[];
} SimWrite;

typedef struct SimInode
{
	int			references;		/* names (both maps), journal and open files */
	uint8_t    *current;
	size_t		size;
	size_t		capacity;
	uint8_t    *durable;
	size_t		durable_size;
	size_t		durable_capacity;
	SimWrite   *pending;		/* oldest first */
	SimWrite  **pending_tail;
} SimInode;

typedef struct SimName
{
	char		name[SIM_NAME_LEN];
	SimInode   *inode;
} SimName;

typedef enum SimJournalKind
{
	SIM_LINK,
	SIM_UNLINK,
	SIM_RENAME
} SimJournalKind;

typedef struct SimJournal
{
	struct SimJournal *next;
	SimJournalKind kind;
	char		name[SIM_NAME_LEN];
	char		new_name[SIM_NAME_LEN];
	SimInode   *inode;
} SimJournal;

typedef struct SimDirectory
{
	SimName		names[SIM_MAX_FILES];
	int			count;
} SimDirectory;

typedef struct SimDisk
{
	SimDirectory current;
	SimDirectory durable;
	SimJournal *journal;
	SimJournal **journal_tail;
	SimInode   *open_files[SIM_MAX_FILES];
	uint64_t	write_seq;		/* of the newest write */
	bool		frozen;

	/* what is about to go wrong; set by the fault injector */
	bool		fail_next_write;	/* EIO, once */
	bool		fail_next_sync; /* EIO, once; what was pending is dropped */
	bool		misdirect_next; /* the next write lands somewhere else */
	uint64_t	capacity;		/* bytes; 0: unlimited */
	SimRand    *rand;

	/* for the closing report */
	uint64_t	writes;
	uint64_t	syncs;
	uint64_t	writes_lost;
	uint64_t	writes_torn;
	uint64_t	names_lost;
	uint64_t	errors_given;
	uint64_t	full_given;
	uint64_t	misdirected;
} SimDisk;

extern void sim_disk_init(SimDisk *disk, SimRand *rand);
extern void sim_disk_free(SimDisk *disk);

/* All of these return >= 0, or a negative errno. */
extern int	sim_disk_open(SimDisk *disk, const char *name, bool create);
extern int	sim_disk_close(SimDisk *disk, int fd);
extern int64_t sim_disk_read(SimDisk *disk, int fd, uint64_t offset, void *data, size_t len);
extern int64_t sim_disk_write(SimDisk *disk, int fd, uint64_t offset, const void *data,
							  size_t len);
extern int	sim_disk_set_size(SimDisk *disk, int fd, uint64_t size);
extern int64_t sim_disk_size(SimDisk *disk, int fd);
extern int	sim_disk_sync(SimDisk *disk, int fd);
extern int	sim_disk_rename(SimDisk *disk, const char *from, const char *to);
extern int	sim_disk_unlink(SimDisk *disk, const char *name);
extern int	sim_disk_sync_names(SimDisk *disk);

/* bytes in all files together */
extern uint64_t sim_disk_used(const SimDisk *disk);

/*
 * A sync in two halves, for asynchronous ones: what was written up to `seq`
 * becomes durable when the second half runs.
 */
extern uint64_t sim_disk_sync_begin(const SimDisk *disk);
extern int	sim_disk_sync_end(SimDisk *disk, int fd, uint64_t seq);

/*
 * Power cut: unsynced writes and names are lost, kept or torn; all files are
 * closed. keep_all is a process crash on a machine that goes on: the page
 * cache stays, nothing is lost (and nothing becomes durable either).
 */
extern void sim_disk_crash(SimDisk *disk, bool keep_all);

/* Everything gone: a new disk was put in. */
extern void sim_disk_wipe(SimDisk *disk);

/*
 * Flip one bit of a durable byte in a file whose name begins with prefix,
 * anywhere that is not zero (an empty preallocated tail proves nothing).
 * False when there is nothing to damage. Position returned for the trace.
 */
extern bool sim_disk_rot(SimDisk *disk, const char *prefix, char *name, uint64_t *offset);

#endif							/* SIM_DISK_H */
