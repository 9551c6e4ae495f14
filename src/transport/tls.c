/*-------------------------------------------------------------------------
 *
 * tls.c
 *		See tls.h.
 *
 *-------------------------------------------------------------------------
 */
#include "transport/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define SSL_get1_peer_certificate SSL_get_peer_certificate
#endif

struct TpTls
{
	SSL_CTX    *ctx;
	int			refs;
};

struct TpTlsSession
{
	TpTls	   *tls;
	SSL		   *ssl;
	BIO		   *in;				/* ssl's own */
	BIO		   *out;
	bool		open;
	char		error[TP_TEXT_LEN];
};

/* ---------- what connections share ---------- */

/* The first of OpenSSL's complaints; its queue is empty afterwards. */
static const char *
why(void)
{
	unsigned long code = ERR_peek_error();
	const char *text;

	ERR_clear_error();
	if (code == 0)
		return "unknown error";
#ifdef ERR_SYSTEM_ERROR
	if (ERR_SYSTEM_ERROR(code))
		return strerror(ERR_GET_REASON(code));
#endif
	text = ERR_reason_error_string(code);
	return text != NULL ? text : "unknown error";
}

/*
 * PostgreSQL's rule for its own key: the server's user and nobody else, or root
 * and its group.
 */
static bool
check_key_file(const char *path, char *error)
{
	struct stat st;

	if (stat(path, &st) != 0)
		snprintf(error, TP_TEXT_LEN, "could not read key file \"%.150s\": %s", path,
				 strerror(errno));
	else if (!S_ISREG(st.st_mode))
		snprintf(error, TP_TEXT_LEN, "key file \"%.150s\" is not a regular file", path);
	else if (st.st_uid != geteuid() && st.st_uid != 0)
		snprintf(error, TP_TEXT_LEN,
				 "key file \"%.150s\" must be owned by the user that runs the server, or root", path);
	else if ((st.st_uid == geteuid() && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
			 (st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		snprintf(error, TP_TEXT_LEN,
				 "key file \"%.100s\" has group or world access; its permissions must be "
				 "u=rw (0600) or less, or u=rw,g=r (0640) or less if owned by root", path);
	else
		return true;
	return false;
}

/* A key that wants a passphrase is none that a worker can read. */
static int
no_passphrase(char *buf, int size, int for_writing, void *arg)
{
	(void) buf;
	(void) size;
	(void) for_writing;
	(void) arg;
	return -1;
}

static bool
fill_context(SSL_CTX *ctx, const char *cert, const char *key, const char *ca, char *error)
{
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	(void) SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	(void) SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
							   SSL_OP_NO_COMPRESSION);
	(void) SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void) SSL_CTX_set_num_tickets(ctx, 0);

	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		snprintf(error, TP_TEXT_LEN, "could not load certificate file \"%.120s\": %s", cert, why());
	else if (!check_key_file(key, error))
		return false;
	else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		snprintf(error, TP_TEXT_LEN, "could not load key file \"%.120s\": %s", key, why());
	else if (SSL_CTX_check_private_key(ctx) != 1)
		snprintf(error, TP_TEXT_LEN, "key file \"%.120s\" does not fit the certificate: %s", key, why());
	else if (SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
		snprintf(error, TP_TEXT_LEN, "could not load CA file \"%.120s\": %s", ca, why());
	else
	{
		/*
		 * A member is a server to both sides: a certificate that is for clients
		 * only (PostgreSQL's CA may have signed those of ordinary users) does
		 * not make one.
		 */
		SSL_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		return true;
	}
	return false;
}

TpTls *
tp_tls_load(const char *cert, const char *key, const char *ca, char *error)
{
	TpTls	   *tls = calloc(1, sizeof(TpTls));

	error[0] = '\0';
	ERR_clear_error();
	if (tls != NULL)
		tls->ctx = SSL_CTX_new(TLS_method());
	if (tls == NULL || tls->ctx == NULL)
	{
		free(tls);
		ERR_clear_error();
		snprintf(error, TP_TEXT_LEN, "out of memory");
		return NULL;
	}
	tls->refs = 1;
	if (!fill_context(tls->ctx, cert, key, ca, error))
	{
		tp_tls_drop(tls);
		return NULL;
	}
	return tls;
}

void
tp_tls_hold(TpTls *tls)
{
	tls->refs++;
}

void
tp_tls_drop(TpTls *tls)
{
	if (tls == NULL || --tls->refs > 0)
		return;
	SSL_CTX_free(tls->ctx);
	free(tls);
}

/* ---------- one connection ---------- */

TpTlsSession *
tp_tls_session_new(TpTls *tls, bool server)
{
	TpTlsSession *session = calloc(1, sizeof(TpTlsSession));

	ERR_clear_error();
	if (session == NULL)
		return NULL;
	session->ssl = SSL_new(tls->ctx);
	session->in = BIO_new(BIO_s_mem());
	session->out = BIO_new(BIO_s_mem());
	if (session->ssl == NULL || session->in == NULL || session->out == NULL)
	{
		SSL_free(session->ssl);
		BIO_free(session->in);
		BIO_free(session->out);
		free(session);
		ERR_clear_error();
		return NULL;
	}
	session->tls = tls;
	tp_tls_hold(tls);
	BIO_set_mem_eof_return(session->in, -1);	/* "not yet", rather than the end */
	SSL_set_bio(session->ssl, session->in, session->out);
	if (server)
		SSL_set_accept_state(session->ssl);
	else
		SSL_set_connect_state(session->ssl);
	return session;
}

void
tp_tls_session_free(TpTlsSession *session)
{
	if (session == NULL)
		return;
	SSL_free(session->ssl);		/* and both buffers */
	tp_tls_drop(session->tls);
	free(session);
}

bool
tp_tls_put(TpTlsSession *session, const uint8_t *bytes, size_t len)
{
	size_t		put = 0;

	ERR_clear_error();
	return BIO_write_ex(session->in, bytes, len, &put) == 1 && put == len;
}

size_t
tp_tls_pending(TpTlsSession *session, const uint8_t **bytes)
{
	char	   *data = NULL;
	long		len = BIO_get_mem_data(session->out, &data);

	*bytes = (const uint8_t *) data;
	return len > 0 ? (size_t) len : 0;
}

void
tp_tls_sent(TpTlsSession *session)
{
	(void) BIO_reset(session->out);
}

/* What to tell people of a handshake that failed. */
static void
describe_failure(TpTlsSession *session)
{
	unsigned long code = ERR_peek_error();
	long		verify = SSL_get_verify_result(session->ssl);
	const char *text = why();

	if (verify != X509_V_OK)
		snprintf(session->error, sizeof(session->error),
				 "TLS: the other side's certificate is not accepted: %s",
				 X509_verify_cert_error_string(verify));
	else if (!session->open && ERR_GET_LIB(code) == ERR_LIB_SSL &&
			 (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER ||
			  ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST ||
			  ERR_GET_REASON(code) == SSL_R_UNKNOWN_PROTOCOL))
		snprintf(session->error, sizeof(session->error),
				 "TLS: the other side does not speak it (quorum.ssl has to be the same on all members)");
	else
		snprintf(session->error, sizeof(session->error), "TLS: %s", text);
}

static TlsResult
result_of(TpTlsSession *session, int rc)
{
	switch (SSL_get_error(session->ssl, rc))
	{
		case SSL_ERROR_WANT_READ:
			return TLS_MORE;
		case SSL_ERROR_ZERO_RETURN:
			return TLS_EOF;
		default:
			describe_failure(session);
			return TLS_FAILED;
	}
}

TlsResult
tp_tls_shake(TpTlsSession *session)
{
	int			rc;

	ERR_clear_error();
	rc = SSL_do_handshake(session->ssl);
	if (rc != 1)
		return result_of(session, rc);
	session->open = true;
	return TLS_DONE;
}

bool
tp_tls_is_open(const TpTlsSession *session)
{
	return session->open;
}

TlsResult
tp_tls_read(TpTlsSession *session, void *buf, size_t size, size_t *got)
{
	int			rc;

	ERR_clear_error();
	rc = SSL_read_ex(session->ssl, buf, size, got);
	return rc == 1 ? TLS_DONE : result_of(session, rc);
}

TlsResult
tp_tls_write(TpTlsSession *session, const void *bytes, size_t len)
{
	size_t		done = 0;
	int			rc;

	ERR_clear_error();
	if (len == 0)
		return TLS_DONE;
	rc = SSL_write_ex(session->ssl, bytes, len, &done);
	if (rc == 1 && done == len)
		return TLS_DONE;
	/* the buffer takes all, and nothing is negotiated again */
	if (result_of(session, rc) != TLS_FAILED)
		snprintf(session->error, sizeof(session->error), "TLS: could not write");
	return TLS_FAILED;
}

const char *
tp_tls_error(const TpTlsSession *session)
{
	return session->error;
}

/* ---------- who it is ---------- */

static bool
common_name_is(X509 *cert, const char *name)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int			at = -1;

	while ((at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0)
	{
		const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));

		if ((size_t) ASN1_STRING_length(value) == strlen(name) &&
			memcmp(ASN1_STRING_get0_data(value), name, strlen(name)) == 0)
			return true;
	}
	return false;
}

bool
tp_tls_peer_is(const TpTlsSession *session, const char *name)
{
	X509	   *cert = SSL_get1_peer_certificate(session->ssl);
	bool		is = false;

	ERR_clear_error();
	if (cert != NULL && name[0] != '\0')
		is = common_name_is(cert, name) ||
			X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1 ||
			X509_check_ip_asc(cert, name, 0) == 1;
	X509_free(cert);
	ERR_clear_error();
	return is;
}

void
tp_tls_peer_subject(const TpTlsSession *session, char *text, size_t size)
{
	X509	   *cert = SSL_get1_peer_certificate(session->ssl);

	text[0] = '\0';
	if (cert != NULL)
		(void) X509_NAME_oneline(X509_get_subject_name(cert), text, (int) size);
	X509_free(cert);
	ERR_clear_error();
}
