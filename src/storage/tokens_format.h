/*-------------------------------------------------------------------------
 *
 * tokens_format.h
 *		Files of the archive of tokens, shared by its writer and its reader.
 *
 * Little-endian. Two kinds of files in the archive's directory:
 *
 *	FIRST-LAST (16 hexadecimal digits each): a segment, the tokens that the
 *	entries FIRST..LAST committed. Ranges of segments may overlap for a moment,
 *	when a small one was merged into its successor.
 *		u32 magic "PQTA", u32 version 1
 *		u64 first, u64 last
 *		i64 newest_us		stamp of entry last
 *		u32 ngroups, u32 0
 *		groups, sorted by (node, boot), 40 bytes each
 *			u32 node, u32 boot, u64 least counter, u64 highest counter,
 *			u64 offset of its data in the file
 *			u32 bytes of its data, u32 CRC-32C of its data
 *		u32 CRC-32C of everything above
 *		data of the groups: runs of counters, each a varint (LEB128) for the
 *			counters skipped since the previous run, or since the least one, and a
 *			varint for the length of the run less one
 *
 *	horizon: where the segments begin, and what lies below
 *		u32 magic "PQTH", u32 version 1
 *		u8[16] owner: the instance whose log it goes with
 *		u64 first
 *		u32 complete		0: what lies below is not known
 *		u32 n
 *		n x (u32 node, u32 boot, u64 highest counter), the highest token of each
 *			member below first
 *		u32 CRC-32C of everything above
 *
 *	NAME.tmp: not finished.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TOKENS_FORMAT_H
#define PGQ_TOKENS_FORMAT_H

#include "storage/tokens.h"

#define TOK_SEGMENT_MAGIC	0x41545150u
#define TOK_HORIZON_MAGIC	0x48545150u
#define TOK_VERSION			1
#define TOK_SEGMENT_HEADER	40
#define TOK_GROUP_SIZE		40
#define TOK_HORIZON_HEADER	40
#define TOK_HORIZON_ENTRY	16
#define TOK_MAX_GROUPS		(1u << 20)
#define TOK_MAX_HORIZON		(1u << 16)
#define TOK_PATH_LEN		1024
#define TOK_HORIZON_NAME	"horizon"

/* A segment that covers fewer entries is merged with what follows. (Tests: fewer.) */
#ifndef TOK_MERGE_ENTRIES
#define TOK_MERGE_ENTRIES	(256 * 1024)
#endif

typedef struct TokGroup
{
	uint32_t	node;
	uint32_t	boot;
	uint64_t	least;
	uint64_t	highest;
	uint64_t	offset;
	uint32_t	bytes;
	uint32_t	crc;
} TokGroup;

typedef struct TokSegment
{
	uint64_t	first;
	uint64_t	last;
	int64_t		newest_us;		/* writer only */
} TokSegment;

typedef struct TokHorizon
{
	uint8_t		owner[16];
	uint64_t	first;
	bool		complete;
	size_t		n;
	TokToken   *highest;		/* malloc'ed */
} TokHorizon;

typedef struct TokSegmentList
{
	TokSegment *segments;		/* malloc'ed, sorted by (first, last) */
	size_t		n;
	size_t		cap;
	bool		failed;			/* no memory */
} TokSegmentList;

/* tokens_format.c; paths are DIR/NAME */
extern void tok_segment_path(const char *dir, uint64_t first, uint64_t last, char *path);
extern int	tok_list(const RlogEnv *env, const char *dir, TokSegmentList *list);

/* -ENOENT: gone; -EBADMSG: damaged; -ENOMEM. */
extern int	tok_read_horizon(const RlogEnv *env, const char *dir, TokHorizon *horizon);
extern int	tok_read_groups(const RlogEnv *env, int fd, TokSegment *segment, TokGroup **groups,
							size_t *ngroups);
extern int	tok_read_data(const RlogEnv *env, int fd, const TokGroup *group, uint8_t **data);

/* Calls run(arg, first counter, last counter); false: malformed. */
extern bool tok_decode(const TokGroup *group, const uint8_t *data,
					   bool (*run) (void *arg, uint64_t from, uint64_t to), void *arg);

/* Makes the file's content; NULL: no memory. Tokens are sorted, without doubles. */
extern uint8_t *tok_encode_segment(const TokSegment *segment, const TokToken *tokens,
								   size_t ntokens, size_t *len);
extern uint8_t *tok_encode_horizon(const TokHorizon *horizon, size_t *len);

extern int	tok_compare(const void *a, const void *b);

#endif							/* PGQ_TOKENS_FORMAT_H */
