/*-------------------------------------------------------------------------
 *
 * token.c
 *		Causal tokens: their bytes, text and authentication. See token.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "consistency/token.h"

#define TOKEN_VERSION	1
#define TOKEN_LEN		(TOKEN_SIGNED_LEN + TOKEN_MAC_LEN)

static const char digits[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint8 *
put(uint8 *to, uint64 value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*to++ = (uint8) (value >> (8 * i));
	return to;
}

static const uint8 *
get(const uint8 *from, uint64 *value, int bytes)
{
	*value = 0;
	for (int i = 0; i < bytes; i++)
		*value = *value << 8 | *from++;
	return from;
}

static void
signed_bytes(const CausalToken *token, uint8 *to)
{
	*to++ = TOKEN_VERSION;
	memcpy(to, token->cluster, TOKEN_CLUSTER_LEN);
	to = put(to + TOKEN_CLUSTER_LEN, token->index, 8);
	to = put(to, (uint64) token->stamp.physical_us, 8);
	to = put(to, token->stamp.logical, 4);
	(void) put(to, token->stamp.node, 4);
}

static void
make_mac(const uint8 *bytes, const uint8 *key, uint8 *mac)
{
	uint8		full[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (HMAC(EVP_sha256(), key, TOKEN_KEY_LEN, bytes, TOKEN_SIGNED_LEN, full, &len) == NULL ||
		len < TOKEN_MAC_LEN)
	{
		/* as good as no token: nothing accepts it */
		memset(mac, 0, TOKEN_MAC_LEN);
		return;
	}
	memcpy(mac, full, TOKEN_MAC_LEN);
}

void
token_encode(const CausalToken *token, const uint8 *key, char *text)
{
	uint8		bytes[TOKEN_LEN + 2] = {0};
	uint32		bits = 0;
	int			nbits = 0;
	int			n = 0;

	signed_bytes(token, bytes);
	make_mac(bytes, key, bytes + TOKEN_SIGNED_LEN);
	for (int i = 0; n < TOKEN_TEXT_LEN; i++)
	{
		bits = bits << 8 | bytes[i];
		nbits += 8;
		while (nbits >= 6 && n < TOKEN_TEXT_LEN)
		{
			nbits -= 6;
			text[n++] = digits[(bits >> nbits) & 63];
		}
	}
	text[n] = '\0';
}

bool
token_decode(const char *text, CausalToken *token)
{
	uint8		bytes[TOKEN_LEN];
	uint32		bits = 0;
	int			nbits = 0;
	int			n = 0;
	const uint8 *at = bytes;
	uint64		value;

	if (strlen(text) != TOKEN_TEXT_LEN)
		return false;
	for (int i = 0; i < TOKEN_TEXT_LEN; i++)
	{
		const char *digit = strchr(digits, text[i]);

		bits = bits << 6 | (uint32) (digit ? digit - digits : 0);
		if (digit == NULL)
			return false;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			bytes[n++] = (uint8) (bits >> nbits);
		}
	}
	/* one text for one token: what is left over is zero */
	if (n != TOKEN_LEN || (bits & ((1u << nbits) - 1)) != 0 || *at++ != TOKEN_VERSION)
		return false;
	memcpy(token->cluster, at, TOKEN_CLUSTER_LEN);
	at = get(at + TOKEN_CLUSTER_LEN, &token->index, 8);
	at = get(at, &value, 8);
	token->stamp.physical_us = (int64) value;
	at = get(at, &value, 4);
	token->stamp.logical = (uint32) value;
	at = get(at, &value, 4);
	token->stamp.node = (uint32) value;
	memcpy(token->mac, at, TOKEN_MAC_LEN);
	return true;
}

bool
token_is_authentic(const CausalToken *token, const uint8 *key)
{
	static const uint8 zero[TOKEN_MAC_LEN];
	uint8		bytes[TOKEN_SIGNED_LEN];
	uint8		mac[TOKEN_MAC_LEN];

	signed_bytes(token, bytes);
	make_mac(bytes, key, mac);
	return CRYPTO_memcmp(mac, token->mac, TOKEN_MAC_LEN) == 0 &&
		memcmp(mac, zero, TOKEN_MAC_LEN) != 0;
}
