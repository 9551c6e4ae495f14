/*-------------------------------------------------------------------------
 *
 * conf.h
 *		Configurations: arithmetic of changes, and the stack of those in the log.
 *
 * Activation is at append time (Ongaro 4.1): the newest configuration in the
 * log is in force, committed or not, on every member. Chosen over apply time
 * because its proof needs no further invariants of apply and campaign (P-07),
 * and because each entry carries the whole configuration, so that undoing one is
 * popping a stack. What makes it safe:
 *	- a leader proposes one only after an entry of its own term is committed
 *	  (P-06), and after the one before is committed: at most one in flight;
 *	- more than one voter changes only through a joint configuration, left only
 *	  when the joint entry itself is committed (P-08);
 *	- cutting the log pops the entries' configurations with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_CONF_H
#define PGQ_RAFT_CONF_H

#include "raft/raft.h"

/*
 * confs[0] is the newest committed one, the last is in force. Written by the
 * core only; after a crash rebuilt from the saved one and the log.
 */
typedef struct RaftConfStack
{
	RaftConf  **confs;
	size_t		n;
	size_t		cap;
} RaftConfStack;

extern bool raft_confs_init(RaftConfStack *s, const RaftConf *committed);
extern void raft_confs_free(RaftConfStack *s);
static inline const RaftConf *
raft_confs_active(const RaftConfStack *s)
{
	return s->confs[s->n - 1];
}
/* Takes over conf (malloc'ed) once it returns true. Room may be reserved before. */
extern bool raft_confs_reserve(RaftConfStack *s, size_t extra);
extern void raft_confs_push(RaftConfStack *s, RaftConf *conf);
extern bool raft_confs_truncate(RaftConfStack *s, uint64_t from);	/* true: another one is in force */
extern bool raft_confs_commit(RaftConfStack *s, uint64_t commit);	/* true: another one is committed */
extern bool raft_confs_reset(RaftConfStack *s, const RaftConf *conf);	/* all gone but this one */

extern bool raft_conf_is_voter(const RaftConf *conf, uint32_t id);	/* in either half */

/*
 * *next: what to append to get from `now` to the voters and learners of
 * *target. RAFT_OK, RAFT_INVALID or RAFT_BUSY (now is joint).
 */
extern RaftStatus raft_conf_change(const RaftConf *now, const RaftConf *target, RaftConf *next);
/* The configuration behind a joint one. */
extern void raft_conf_leave(const RaftConf *joint, RaftConf *next);

#endif							/* PGQ_RAFT_CONF_H */
