/*-------------------------------------------------------------------------
 *
 * module.c
 *		What pg_quorum.c calls of the replication layer (replication.h), put
 *		together from the session side and the apply side.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "replication/apply_internal.h"
#include "replication/gate.h"
#include "replication/image_internal.h"
#include "replication/replication.h"
#include "replication/resync.h"
#include "replication/session.h"
#include "replication/stats.h"

void
replication_define_settings(void)
{
	session_define_settings();
	image_define_settings();
}

Size
replication_shmem_size(void)
{
	return add_size(add_size(stats_shmem_size(), resync_shmem_size()),
					add_size(conflict_shmem_size(),
							 add_size(apply_shmem_size(),
									  add_size(gate_shmem_size(), image_shmem_size()))));
}

void
replication_shmem_init(void)
{
	stats_shmem_init();
	resync_shmem_init();
	conflict_shmem_init();
	apply_shmem_init();
	gate_shmem_init();
	image_shmem_init();
}

/*
 * Transaction callbacks run last registered first: commit.c's PRE_COMMIT arms
 * the commit, and ordercommit.c's COMMIT, which passes the turn on, comes
 * before the rest of the bookkeeping.
 */
void
replication_install_hooks(void)
{
	session_install_hooks();
	sequences_install();
	conflict_install();
	ordercommit_install();
}
