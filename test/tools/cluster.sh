#!/bin/bash
# cluster.sh cluster|cluster-stop|demo - three servers with pg_quorum on this
# machine, on free ports of the loopback address, in a private directory.
#
# cluster leaves them running and says how to reach them; cluster-stop ends
# them and removes everything. demo shows what the extension is for and cleans
# up after itself. Nothing is installed but packages that are missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# where the running cluster of this user is
state=/tmp/pgq-cluster-$(id -un)

start_time=$(date +%s%N)

# One line of the story, with the seconds since the beginning.
tell()
{
	local ms=$((($(date +%s%N) - start_time) / 1000000))

	printf '%3d.%03d  %s\n' $((ms / 1000)) $((ms % 1000)) "$*"
}

free_ports()
{
	perl -MIO::Socket::INET -e 'my @s = map { IO::Socket::INET->new(Listen => 1,
		LocalAddr => "127.0.0.1") } 1 .. shift; print join " ", map { $_->sockport } @s' "$1"
}

sql()
{
	local i=$1
	shift
	as_server "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work" -p "${pg_port[$i]}" \
		-d postgres "$@"
}

# sql, or nothing at all when the server cannot answer now
ask()
{
	PGCONNECT_TIMEOUT=2 sql "$@" 2>/dev/null || true
}

control()
{
	local i=$1
	shift
	as_server "$bin/pg_ctl" -s -D "$work/n$i" -l "$work/n$i.log" "$@"
}

# wait_for BOUND_S WHAT COMMAND...: until it succeeds
wait_for()
{
	local end=$(($(date +%s) + $1)) what=$2

	shift 2
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || die "gave up waiting until $what; see $work/*.log"
		sleep 0.02
	done
}

prepare_servers()
{
	local ports i

	ensure_packages
	stage=$work/stage
	mkdir "$stage"
	bin=$("$repo/test/tools/stage.sh" "$stage")
	read -r -a ports <<<"$(free_ports 6)"
	for i in 1 2 3; do
		pg_port[i]=${ports[i - 1]}
		raft_port[i]=${ports[i + 2]}
	done
	as_server "$bin/initdb" -A trust -N -U postgres -D "$work/n1" --encoding=UTF8 --no-locale >"$work/initdb.log"
	as_server cp -r "$work/n1" "$work/n2"
	as_server cp -r "$work/n1" "$work/n3"
	for i in 1 2 3; do
		# copies have one system identifier; nothing here minds
		as_server tee -a "$work/n$i/postgresql.conf" >/dev/null <<-CONF
			port = ${pg_port[$i]}
			listen_addresses = '127.0.0.1'
			unix_socket_directories = '$work'
			unix_socket_permissions = 0777
			shared_preload_libraries = 'pg_quorum'
			quorum.database = 'postgres'
			quorum.node_name = 'n$i'
			quorum.address = '127.0.0.1:${raft_port[$i]}'
		CONF
		chmod 0700 "$work/n$i"
	done
}

leads()
{
	[ "$(ask "$1" -c 'SELECT role FROM quorum.status')" = leader ]
}

found_cluster()
{
	local i

	for i in 1 2 3; do
		control "$i" -w start || die "server $i did not start; see $work/n$i.log"
	done
	tell "three PostgreSQL servers run"
	for i in 1 2 3; do
		sql "$i" -c 'CREATE EXTENSION pg_quorum'
	done
	sql 1 -c 'SELECT quorum.create_cluster()' >/dev/null
	wait_for 30 "server 1 leads" leads 1
	tell "n1 has founded a cluster of one: SELECT quorum.create_cluster()"
	for i in 2 3; do
		sql "$i" -c "SELECT quorum.join_cluster('127.0.0.1:${raft_port[1]}')" >/dev/null
		tell "n$i has joined it: SELECT quorum.join_cluster('127.0.0.1:${raft_port[1]}')"
	done
}

replicated_table()
{
	local i

	for i in 1 2 3; do
		sql "$i" -c 'CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance numeric NOT NULL DEFAULT 0)'
	done
	sql 1 -c "SELECT quorum.add_table('accounts')" >/dev/null
	for i in 1 2 3; do
		wait_for 30 "n$i knows the table" table_known "$i"
	done
	tell "table accounts is replicated: SELECT quorum.add_table('accounts')"
}

table_known()
{
	[ "$(ask "$1" -c "SELECT count(*) FROM quorum.tables")" = 1 ]
}

stop_servers()
{
	local dir

	for dir in "$work"/n[123]; do
		[ ! -e "$dir/postmaster.pid" ] || as_server "$bin/pg_ctl" -s -D "$dir" -m immediate stop || true
	done
}

# --- demo ---

demo_failed()
{
	local status=$?

	stop_servers 2>/dev/null || true
	if [ "$status" = 0 ]; then
		rm -rf "$work"
	else
		say "the demo failed; logs are in $work"
	fi
	exit "$status"
}

digest()
{
	ask "$1" -c "SELECT count(*) || ' rows, md5 ' || md5(string_agg(a::text, ',' ORDER BY id)) FROM accounts a"
}

all_applied()
{
	local index i

	index=$(ask "$new_leader" -c 'SELECT commit_index FROM quorum.status')
	[ -n "$index" ] || return 1
	for i in 1 2 3; do
		[ "$(ask "$i" -c "SELECT applied_index >= $index FROM quorum.status")" = t ] || return 1
	done
}

find_leader()
{
	local i

	for i in "$@"; do
		if leads "$i"; then
			new_leader=$i
			return 0
		fi
	done
	return 1
}

# Writers on the given servers, until the file $work/stop is there. Each counts
# what was acknowledged to it.
writer()
{
	local i=$1 id=$((${1} * 1000000)) done=0

	while [ ! -e "$work/stop" ]; do
		id=$((id + 1))
		if sql "$i" -c "INSERT INTO accounts VALUES ($id, 'written on n$i', $id)" 2>>"$work/writer$i.err"; then
			done=$((done + 1))
			echo "$done" >"$work/acknowledged$i"
		fi
	done
}

acknowledged()
{
	cat "$work"/acknowledged* 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'
}

more_than()
{
	[ "$(acknowledged)" -gt "$1" ]
}

gone()
{
	! kill -0 "$1" 2>/dev/null
}

demo()
{
	local i k pid leader before rows writers=()

	work=$(new_work_dir demo)
	trap demo_failed EXIT
	trap 'exit 130' INT TERM
	tell "building pg_quorum and three servers in $work"
	prepare_servers
	found_cluster
	replicated_table

	for i in 1 2 3; do
		sql "$i" -c "INSERT INTO accounts VALUES ($i, 'written on n$i', 100)"
		tell "a row written on n$i"
	done
	find_leader 1 2 3 || die "no leader"
	leader=$new_leader
	wait_for 30 "all have applied all" all_applied
	for i in 1 2 3; do
		tell "n$i has: $(ask "$i" -c "SELECT string_agg(id || ' ' || owner, ', ' ORDER BY id) FROM accounts")"
	done

	tell "now three clients write without pause, one on each server"
	for i in 1 2 3; do
		writer "$i" &
		writers+=($!)
	done
	wait_for 60 "there are writes" more_than 60
	tell "$(acknowledged) writes acknowledged; the leader is n$leader"

	pid=$(head -n 1 "$work/n$leader/postmaster.pid")
	kill -9 "$pid"
	tell "kill -9 of the leader, n$leader (pid $pid)"
	k=()
	for i in 1 2 3; do [ "$i" = "$leader" ] || k+=("$i"); done
	wait_for 30 "there is a new leader" find_leader "${k[@]}"
	before=$(acknowledged)
	tell "n$new_leader leads now"
	wait_for 30 "writes go on" more_than "$before"
	tell "writes are acknowledged again"
	wait_for 60 "there are more writes" more_than $((before + 40))
	tell "$(acknowledged) writes acknowledged, with two servers of three"

	wait_for 30 "the dead postmaster is gone" gone "$pid"
	wait_for 60 "n$leader starts" control "$leader" -w start 2>/dev/null
	tell "n$leader is started again"
	before=$(acknowledged)
	wait_for 60 "there are more writes" more_than $((before + 20))
	touch "$work/stop"
	wait "${writers[@]}"
	find_leader 1 2 3 || true
	wait_for 60 "all have applied all" all_applied
	tell "the clients stop; $(acknowledged) writes were acknowledged"
	for i in 1 2 3; do
		tell "n$i: $(digest "$i")"
	done
	rows=$(ask 1 -c 'SELECT count(*) FROM accounts')
	[ "$(digest 1)" = "$(digest 2)" ] && [ "$(digest 2)" = "$(digest 3)" ] ||
		die "the tables differ"
	[ "$rows" -ge $(($(acknowledged) + 3)) ] || die "acknowledged rows are missing"
	tell "identical tables on all three, and every acknowledged write is there"
}

# --- cluster ---

cluster()
{
	local i

	[ ! -e "$state" ] || die "there is one already, in $(cat "$state"); make cluster-stop ends it"
	work=$(new_work_dir cluster)
	tell "building pg_quorum and three servers in $work"
	prepare_servers
	found_cluster
	replicated_table
	echo "$work" >"$state"
	echo "$bin" >"$work/bin"
	echo
	echo "Three servers run in $work. To reach them:"
	for i in 1 2 3; do
		echo "  $bin/psql -h 127.0.0.1 -p ${pg_port[$i]} -U postgres postgres    # n$i"
	done
	cat <<-'TEXT'
	Try:
	  INSERT INTO accounts VALUES (1, 'me', 100);      -- on any of them
	  SELECT * FROM accounts;                          -- on all of them
	  SELECT * FROM quorum.status;
	  SELECT node_name, role, reachable, applied_index FROM quorum.members;
	Logs are beside the data directories. make cluster-stop ends and removes it all.
	TEXT
}

cluster_stop()
{
	[ -e "$state" ] || die "no cluster of yours is running"
	work=$(cat "$state")
	bin=$(cat "$work/bin")
	stop_servers
	rm -rf "$work" "$state"
	echo "stopped and removed"
}

case ${1:-} in
	demo) demo ;;
	cluster) cluster ;;
	cluster-stop) cluster_stop ;;
	*) die "usage: cluster.sh demo|cluster|cluster-stop" ;;
esac
