# lib.sh - what the scripts in this directory share. Sourced, never run.
#
# Nothing here writes into the work tree, and nothing installs into the system,
# ensure_packages() apart.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say()
{
	printf '%s\n' "$*" >&2
}

die()
{
	say "$(basename "$0"): $*"
	exit 1
}

# Servers refuse to run as root: then they run as "postgres", who comes with
# the packaged server. as_server CMD... runs CMD as whoever runs servers.
if [ "$(id -u)" = 0 ]; then
	server_user=postgres
	as_server()
	{
		runuser -u "$server_user" -- "$@"
	}
else
	server_user=$(id -un)
	as_server()
	{
		"$@"
	}
fi

# Long-lived things that are fetched and built outside the repository.
cache_dir()
{
	if [ -n "${PGQ_CACHE:-}" ]; then
		echo "$PGQ_CACHE"
	elif [ "$(id -u)" = 0 ]; then
		echo /var/cache/pg_quorum	# /root is closed to the servers' user
	else
		echo "${XDG_CACHE_HOME:-$HOME/.cache}/pg_quorum"
	fi
}

# pg_config of the server to test against: $PG_CONFIG, else Debian's 15.
find_pg_config()
{
	local debian=/usr/lib/postgresql/15/bin/pg_config

	if [ -n "${PG_CONFIG:-}" ]; then
		command -v "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG is not there"
	elif [ -x "$debian" ]; then
		echo "$debian"
	else
		command -v pg_config || die "no pg_config found; set PG_CONFIG"
	fi
}

install_packages()
{
	local sudo=

	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null ||
			die "missing packages: $*. Install them as root, or install sudo."
		sudo=sudo
	fi
	command -v apt-get >/dev/null || die "missing: $* (and this is not a Debian system)"
	say "installing: $*"
	{
		$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
			$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
				--no-install-recommends install "$@"
	} >&2 || die "apt-get could not install: $*"
}

# Install what is missing, and touch nothing where all is there. Looks at the
# things themselves, so that another packaging of them is as good.
ensure_packages()
{
	local want=()

	command -v gcc make >/dev/null || want+=(build-essential)
	[ -e /usr/include/uv.h ] || want+=(libuv1-dev)
	[ -e /usr/include/openssl/evp.h ] || want+=(libssl-dev)
	perl -MIPC::Run -e1 2>/dev/null || want+=(libipc-run-perl)
	command -v prove >/dev/null || want+=(perl)
	if [ -z "${PG_CONFIG:-}" ]; then
		[ -x /usr/lib/postgresql/15/bin/postgres ] || want+=(postgresql-15)
		[ -e /usr/include/postgresql/15/server/postgres.h ] ||
			want+=(postgresql-server-dev-15)
		[ -e /usr/share/postgresql/15/extension/pgtap.control ] ||
			want+=(postgresql-15-pgtap)
	fi
	[ ${#want[@]} = 0 ] || install_packages "${want[@]}"
}

# A new directory that the servers' user owns and everybody can enter. Short,
# since the path of a socket has to fit into 107 bytes.
new_work_dir()
{
	local dir

	dir=$(mktemp -d "${PGQ_TMP:-/tmp}/pgq-$1.XXXXXX") || die "no work directory"
	chmod 0755 "$dir"
	chown "$server_user" "$dir"
	echo "$dir"
}
