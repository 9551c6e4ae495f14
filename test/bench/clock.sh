#!/bin/bash
# clock.sh [SECONDS] - what the clock costs, as ratios: hlc_now() and next_id()
# against clock_timestamp() and nextval() with 1 and 8 sessions, then sorting and
# index builds of a million hlc values against timestamptz, bigint and uuid, which
# is the built-in type of the same size that is passed by reference, too. On a
# private staged server with a cluster of one (stage.sh: PGQ_BUILD, PG_CONFIG).
set -euo pipefail
. "$(dirname "$0")/../tools/lib.sh"

seconds=${1:-5}
work=$(new_work_dir clockbench)
data=$work/data

clean_up()
{
	cd /
	[ ! -e "$data/postmaster.pid" ] ||
		as_server "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean_up EXIT

ensure_packages
mkdir "$work/stage"
bin=$("$repo/test/tools/stage.sh" "$work/stage")
port=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1,
	LocalAddr => "127.0.0.1")->sockport')
cd "$work"
as_server "$bin/initdb" -A trust -N -D "$data" --no-locale --encoding=UTF8 >/dev/null
{
	cat "$repo/test/regress.conf"
	echo "quorum.address = '127.0.0.1:$port'"
	echo "listen_addresses = ''"
	echo "unix_socket_directories = '$work'"
	echo "shared_buffers = 512MB"
	echo "max_wal_size = 8GB"
	echo "work_mem = 256MB"
	echo "maintenance_work_mem = 512MB"
	echo "max_parallel_workers_per_gather = 0"
	echo "max_parallel_maintenance_workers = 0"
} | as_server tee -a "$data/postgresql.conf" >/dev/null
as_server "$bin/pg_ctl" -D "$data" -l "$work/log" -w start >/dev/null || { tail "$work/log" >&2; exit 1; }

sql()
{
	as_server env PGOPTIONS='-c client_min_messages=warning' "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$work" -d postgres "$@"
}
sql -f "$repo/sql/init.sql" >/dev/null
sql -c 'CREATE SEQUENCE s' -c 'CREATE SEQUENCE cached CACHE 1000'

# $1: sessions; $2: expression. A thousand calls a statement, so that it is the
# function that is measured. Calls per second.
rate()
{
	echo "SELECT count($2) FROM generate_series(1, 1000);" >"$work/script.sql"
	as_server "$bin/pgbench" -n -h "$work" -M prepared -c "$1" -j 2 -T "$seconds" \
		-f "$work/script.sql" postgres | awk '/^tps/ { printf "%.0f", $3 * 1000 }'
}

printf '%-30s %12s %12s %8s\n' 'calls/s' 'A' 'B' 'A/B'
for sessions in 1 8; do
	for pair in 'quorum.hlc_now() clock_timestamp()' "quorum.next_id() nextval('s')" \
		"quorum.next_id() nextval('cached')"; do
		set -- $pair
		a=$(rate $sessions "$1") b=$(rate $sessions "$2")
		printf '%-30s %12s %12s %8s\n' "$sessions: $1 / ${2//\'/}" "$a" "$b" \
			"$(awk "BEGIN { printf \"%.2f\", $a / $b }")"
	done
done

# $1: a statement on $column, written COL. Milliseconds, best of three.
time_of()
{
	local best= ms

	for _ in 1 2 3; do
		ms=$(sql -c '\timing on' -c "${1//COL/$column}" | awk '/^Time:/ { print $2 }')
		sql -c 'DROP INDEX IF EXISTS bench_index'
		[ -n "$best" ] && awk "BEGIN { exit !($ms >= $best) }" || best=$ms
	done
	echo "$best"
}

sql -c "CREATE UNLOGGED TABLE million AS
	SELECT quorum.hlc_make(t, 0, 1) AS h, t, (extract(epoch FROM t) * 1000000)::bigint AS i,
		md5(t::text)::uuid AS u
	FROM (SELECT clock_timestamp() + random() * interval '1 year' AS t FROM generate_series(1, 1000000)) s" \
	-c 'VACUUM (ANALYZE, FREEZE) million'
printf '\n%-20s %9s %11s %9s %9s %8s %8s\n' 'a million values, ms' hlc timestamptz bigint uuid \
	hlc/tstz hlc/uuid
for what in 'sort|SELECT count(*) FROM (SELECT COL FROM million ORDER BY COL OFFSET 0) s' \
	'btree|CREATE INDEX bench_index ON million (COL)' \
	'hash|CREATE INDEX bench_index ON million USING hash (COL)' \
	'brin|CREATE INDEX bench_index ON million USING brin (COL)' \
	'group by hash|SELECT count(*) FROM (SELECT COL FROM million GROUP BY COL OFFSET 0) s'; do
	ms=()
	for column in h t i u; do
		ms+=("$(time_of "${what#*|}")")
	done
	printf '%-20s %9s %11s %9s %9s %8s %8s\n' "${what%%|*}" "${ms[@]}" \
		"$(awk "BEGIN { printf \"%.2f\", ${ms[0]} / ${ms[1]} }")" \
		"$(awk "BEGIN { printf \"%.2f\", ${ms[0]} / ${ms[3]} }")"
done
