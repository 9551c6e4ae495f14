/*-------------------------------------------------------------------------
 *
 * settings.c
 *		Settings of the node layer (interface.md, Settings).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "node/node_internal.h"

char	   *quorum_database = NULL;
char	   *quorum_node_name = NULL;
char	   *quorum_address = NULL;
char	   *quorum_secret_file = NULL;
int			quorum_ssl = QUORUM_SSL_OFF;
char	   *quorum_ssl_cert_file = NULL;
char	   *quorum_ssl_key_file = NULL;
char	   *quorum_ssl_ca_file = NULL;
int			quorum_heartbeat_interval_ms = 100;
int			quorum_election_timeout_ms = 1000;
int			quorum_max_log_size_mb = 4096;
int			quorum_commit_timeout_ms = 0;
bool		quorum_leader_lease = false;
int			quorum_sequence_stride = 8;

static const struct config_enum_entry ssl_options[] = {
	{"off", QUORUM_SSL_OFF, false},
	{"require", QUORUM_SSL_REQUIRE, false},
	{NULL, 0, false}
};

/* Boot value of quorum.node_name; kept for the life of the process. */
static char host_name[NODE_NAME_LEN];

static bool
check_node_name(char **newval, void **extra, GucSource source)
{
	size_t		len = strlen(*newval);

	if (len == 0 || len >= NODE_NAME_LEN)
	{
		GUC_check_errdetail("A node name has 1 to %d bytes.", NODE_NAME_LEN - 1);
		return false;
	}
	for (const char *c = *newval; *c; c++)
	{
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
		{
			GUC_check_errdetail("A node name has no control characters.");
			return false;
		}
	}
	return true;
}

static bool
check_address(char **newval, void **extra, GucSource source)
{
	char		host[NODE_ADDRESS_LEN];
	int			port;

	if (!node_parse_address(*newval, host, sizeof(host), &port))
	{
		GUC_check_errdetail("An address has the form host:port, with a port from 1 to 65535.");
		return false;
	}
	return true;
}

static bool
check_heartbeat(int *newval, void **extra, GucSource source)
{
	/* the election timeout is compared where both are known: in the worker */
	return *newval > 0;
}

void
node_define_settings(void)
{
	/* such a one cannot be made in a server that runs: not preloaded, then */
	GucContext	at_start = process_shared_preload_libraries_in_progress ?
		PGC_POSTMASTER : PGC_SIGHUP;

	if (gethostname(host_name, sizeof(host_name) - 1) != 0 || host_name[0] == '\0')
		strlcpy(host_name, "localhost", sizeof(host_name));

	DefineCustomStringVariable("quorum.database",
							   "The database whose tables take part in the cluster.",
							   NULL, &quorum_database, "postgres",
							   at_start, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("quorum.node_name",
							   "Unique name of this member.",
							   NULL, &quorum_node_name, host_name,
							   at_start, 0, check_node_name, NULL, NULL);
	DefineCustomStringVariable("quorum.address",
							   "host:port on which this member listens and is reached by the others.",
							   NULL, &quorum_address, "127.0.0.1:7432",
							   at_start, 0, check_address, NULL, NULL);
	DefineCustomStringVariable("quorum.secret_file",
							   "File with the secret that members prove to each other.",
							   "At least 16 bytes, owned by the server's user, mode 0600. "
							   "Once set it is demanded of every peer.",
							   &quorum_secret_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomEnumVariable("quorum.ssl",
							 "Whether members talk to each other over TLS.",
							 "The same on all members. Each shows a certificate and checks the others'.",
							 &quorum_ssl, QUORUM_SSL_OFF, ssl_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("quorum.ssl_cert_file",
							   "File with this member's certificate.",
							   "Empty: that of ssl_cert_file.",
							   &quorum_ssl_cert_file, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("quorum.ssl_key_file",
							   "File with the key of this member's certificate.",
							   "Empty: that of ssl_key_file.",
							   &quorum_ssl_key_file, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("quorum.ssl_ca_file",
							   "File with the certificates of the authority that signs members' certificates.",
							   "Empty: that of ssl_ca_file.",
							   &quorum_ssl_ca_file, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.heartbeat_interval",
							"Time between two heartbeats of the leader.",
							NULL, &quorum_heartbeat_interval_ms, 100, 5, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, check_heartbeat, NULL, NULL);
	DefineCustomIntVariable("quorum.election_timeout",
							"Time without a leader after which an election begins.",
							"Drawn anew for each election from [T, 2T). "
							"At least three heartbeat intervals are used.",
							&quorum_election_timeout_ms, 1000, 20, 600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.max_log_size",
							"Log kept for members that lag.",
							NULL, &quorum_max_log_size_mb, 4096, 16, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.commit_timeout",
							"Bound on the wait of COMMIT for the cluster's verdict; 0 waits.",
							NULL, &quorum_commit_timeout_ms, 0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("quorum.leader_lease",
							 "Strong reads on the leader without a round trip.",
							 "Assumes that the members' monotonic clocks run at about the same rate.",
							 &quorum_leader_lease, false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.sequence_stride",
							"Largest number of members that can hand out sequence values.",
							"The same on all members.",
							&quorum_sequence_stride, 8, 1, 64,
							at_start, 0, NULL, NULL, NULL);
}
