/*-------------------------------------------------------------------------
 *
 * tokens.h
 *		Archive of committed tokens: what became of a transaction whose entry has
 *		left the log.
 *
 * Pure C11 like the log (rlog.h), over the same file operations. One process
 * writes (TokArchive), any number of others look up (tok_lookup), without locks.
 *
 * The archive knows which tokens were committed by the entries first..archived,
 * in sorted segments. What lies below first was removed because of its age, and
 * is summed up: for each member the highest token of its that lies there. A token
 * above that cannot be there. Where even this is not known (the log of this
 * member began later) nothing can be said of a token that is not found.
 *
 * Everything is durable when a function returns. A crash in the middle of one
 * leaves what was before or what comes after it, and perhaps a file too many,
 * which the next tok_open() removes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TOKENS_H
#define PGQ_TOKENS_H

#include "storage/rlog.h"

typedef struct TokToken
{
	uint32_t	node;			/* 0: none */
	uint32_t	boot;
	uint64_t	counter;
} TokToken;

typedef struct TokArchive TokArchive;

/*
 * Open, or make. owner: whose log it goes with (the log's instance id); another's
 * archive is emptied. A new one begins with entry `first`. NULL: error
 * (RLOG_ERROR_LEN) says why.
 */
extern TokArchive *tok_open(const RlogEnv *env, const char *dir, const uint8_t owner[16],
							uint64_t first, char *error);
extern void tok_close(TokArchive *archive);

/* Highest entry that is covered; the next one to be added comes right after it. */
extern uint64_t tok_archived(const TokArchive *archive);
extern size_t tok_segments(const TokArchive *archive);

/*
 * The entries tok_archived() + 1 .. last committed these tokens (sorted in
 * place); newest_us: stamp of the last of them. False: error says why, nothing
 * was added.
 */
extern bool tok_add(TokArchive *archive, uint64_t last, TokToken *tokens, size_t ntokens,
					int64_t newest_us, char *error);

/* Nothing is known of the entries up to first - 1 that is not archived yet. */
extern bool tok_skip_to(TokArchive *archive, uint64_t first, char *error);

/*
 * Take over another member's archive, a copy of whose files lies in from_dir (its
 * horizon was the last to be written): the same log's, so what both cover is the
 * same. Files are moved. Whatever part of it is moved before a crash is true.
 */
extern bool tok_adopt(TokArchive *archive, const char *from_dir, char *error);

/* Remove what is wholly older than before_us. *removed: segments. */
extern bool tok_expire(TokArchive *archive, int64_t before_us, size_t *removed, char *error);

typedef enum TokResult
{
	TOK_FOUND,					/* committed */
	TOK_ABSENT,					/* in none of the entries 1 .. *upto */
	TOK_UNSURE					/* not found, but it may have been there */
} TokResult;

extern TokResult tok_lookup(const RlogEnv *env, const char *dir, TokToken token, uint64_t *upto);

#endif							/* PGQ_TOKENS_H */
