/*-------------------------------------------------------------------------
 *
 * certs.c
 *		See certs.h.
 *
 *-------------------------------------------------------------------------
 */
#include "certs.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#define DAY (24 * 60 * 60)

struct Authority
{
	EVP_PKEY   *key;
	X509	   *cert;
};

static char dir[] = "/tmp/pgq-certs.XXXXXX";
static bool dir_made = false;
static long serial = 1;

const char *
cert_path(const char *name, const char *suffix)
{
	static char paths[4][256];
	static int	at = 0;

	if (!dir_made)
	{
		CHECK(mkdtemp(dir) != NULL);
		dir_made = true;
	}
	at = (at + 1) % 4;
	snprintf(paths[at], sizeof(paths[at]), "%s/%s%s", dir, name, suffix);
	return paths[at];
}

static void
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX	ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	CHECK(extension != NULL && X509_add_ext(cert, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

static X509 *
new_cert(EVP_PKEY *key, const char *cn, long from_s, long to_s)
{
	X509	   *cert = X509_new();

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
							   (const unsigned char *) cn, -1, -1, 0);
	return cert;
}

static void
write_cert(const char *path, X509 *cert)
{
	FILE	   *file = fopen(path, "w");

	CHECK(file != NULL && PEM_write_X509(file, cert) == 1);
	fclose(file);
}

Authority *
authority_new(const char *name)
{
	Authority  *authority = calloc(1, sizeof(Authority));

	authority->key = EVP_EC_gen("P-256");
	authority->cert = new_cert(authority->key, name, -DAY, DAY);
	X509_set_issuer_name(authority->cert, X509_get_subject_name(authority->cert));
	add_extension(authority->cert, authority->cert, NID_basic_constraints, "critical,CA:TRUE");
	CHECK(X509_sign(authority->cert, authority->key, EVP_sha256()) > 0);
	write_cert(cert_path(name, ".crt"), authority->cert);
	return authority;
}

void
authority_free(Authority *authority)
{
	X509_free(authority->cert);
	EVP_PKEY_free(authority->key);
	free(authority);
}

void
cert_make(Authority *authority, const char *name, const CertWish *wish)
{
	EVP_PKEY   *key = EVP_EC_gen("P-256");
	X509	   *cert = new_cert(key, wish->cn, -2 * DAY, wish->expired ? -DAY : DAY);
	mode_t		mask = umask(077);
	FILE	   *file;

	X509_set_issuer_name(cert, X509_get_subject_name(authority->cert));
	if (wish->alt != NULL)
		add_extension(cert, authority->cert, NID_subject_alt_name, wish->alt);
	if (wish->for_clients)
		add_extension(cert, authority->cert, NID_ext_key_usage, "clientAuth");
	CHECK(X509_sign(cert, authority->key, EVP_sha256()) > 0);
	write_cert(cert_path(name, ".crt"), cert);
	(void) unlink(cert_path(name, ".key"));
	file = fopen(cert_path(name, ".key"), "w");
	CHECK(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
	fclose(file);
	umask(mask);
	X509_free(cert);
	EVP_PKEY_free(key);
}

TpTls *
cert_load(const char *name, const char *authority, char *error)
{
	return tp_tls_load(cert_path(name, ".crt"), cert_path(name, ".key"),
					   cert_path(authority, ".crt"), error);
}

void
certs_clean_up(void)
{
	DIR		   *at = dir_made ? opendir(dir) : NULL;
	struct dirent *entry;

	if (at == NULL)
		return;
	while ((entry = readdir(at)) != NULL)
		if (entry->d_name[0] != '.')
			(void) unlink(cert_path(entry->d_name, ""));
	closedir(at);
	(void) rmdir(dir);
}
