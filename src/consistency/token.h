/*-------------------------------------------------------------------------
 *
 * token.h
 *		Causal tokens: "everything up to this entry of this cluster's log".
 *
 * A token is text for the client to carry about, and authenticated, so that
 * nobody can make a server wait for entries that there will never be. Binary
 * form, most significant byte first, 49 bytes; the text is their base64url
 * without padding:
 *
 *	u8	version		1
 *	8	cluster		first bytes of the cluster's id
 *	u64 index
 *	i64 physical, u32 logical, u32 node		clock stamp (HLC)
 *	16	mac			HMAC-SHA256 of the above, cut, with the cluster's key
 *
 * The key: 32 random bytes in quorum.token_key, written by an entry of the log,
 * hence the same on all members and of all leaders: tokens outlive failover. The
 * first session that commits makes it; of several the first in the log counts.
 *
 * What a session keeps (token_session.c)
 * --------------------------------------
 *	required	highest index that it committed or was given by SET: causal and
 *				read_your_writes wait for that
 *	seen		the same, and what causal reads have shown: what its token says
 * Both only grow, whatever happens to the setting: it is the text in which seen
 * is shown and reported.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TOKEN_H
#define PGQ_TOKEN_H

#include "postgres.h"

#include "clock/hlc.h"

#define TOKEN_KEY_LEN		32
#define TOKEN_CLUSTER_LEN	8
#define TOKEN_MAC_LEN		16
#define TOKEN_SIGNED_LEN	33
#define TOKEN_TEXT_LEN		66

typedef struct CausalToken
{
	uint8		cluster[TOKEN_CLUSTER_LEN];
	uint64		index;
	HlcStamp	stamp;
	uint8		mac[TOKEN_MAC_LEN];
} CausalToken;

/* token.c: false: malformed / text has room for TOKEN_TEXT_LEN + 1 */
extern bool token_decode(const char *text, CausalToken *token);
extern void token_encode(const CausalToken *token, const uint8 *key, char *text);
extern bool token_is_authentic(const CausalToken *token, const uint8 *key);

/* token_key.c: the cluster's key; NULL: not known (yet) here */
extern const uint8 *token_key_cached(void);
extern const uint8 *token_key_load(void);	/* in a transaction */
extern const uint8 *token_key_make(void);	/* in a transaction that may wait */

/* token_session.c */
extern void token_define_settings(void);
extern void token_install(void);	/* transaction callback: before those of the replication layer */

/*
 * The entry that reads have to wait for; 0: none. Tokens that were set where
 * they could not be checked are checked now: 22023.
 */
extern uint64 token_required(int64 deadline_us);

/*
 * At XACT_EVENT_COMMIT of a transaction that repeats one that had committed
 * before (idempotency.c), with an entry up to index: as if it were ours. The key
 * was loaded while tables could be read.
 */
extern void token_repeated(uint64 index);

/* A causal read has shown entries up to index. */
extern void token_saw(uint64 index);

extern const char *token_current(void);

#endif							/* PGQ_TOKEN_H */
