/*-------------------------------------------------------------------------
 *
 * certs.h
 *		Certificates for the tests, made on the spot in a directory that goes away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_CERTS_H
#define PGQ_TP_CERTS_H

#include <stdbool.h>

#include "transport/transport.h"

typedef struct Authority Authority;

/* Its certificate is in file NAME.crt. */
extern Authority *authority_new(const char *name);
extern void authority_free(Authority *authority);

typedef struct CertWish
{
	const char *cn;
	const char *alt;			/* "DNS:a,IP:127.0.0.1", or NULL */
	bool		for_clients;	/* and for nothing else */
	bool		expired;
} CertWish;

/* FILE.crt and FILE.key. */
extern void cert_make(Authority *authority, const char *file, const CertWish *wish);

/* Path of a file in the directory; of four calls before, too. */
extern const char *cert_path(const char *name, const char *suffix);

/* The three files; NULL: error says why (TP_TEXT_LEN). */
extern TpTls *cert_load(const char *file, const char *authority, char *error);
extern void certs_clean_up(void);

#endif							/* PGQ_TP_CERTS_H */
