#!/bin/bash
# locks.sh - locks of pg_quorum beside the alternatives, in one run on this
# machine: etcd (three members), Redlock (five Redis servers with appendfsync
# always) and pg_advisory_lock (one server).
#
# Uncontended acquire+release with 1 and 16 clients, and the hand-over of one lock
# among 8. The kinds take turns, A B C D A B ..., and medians over the rounds are
# reported, so that a machine that slows down slows all. lockload.c and
# lockload.go say how it is measured. Clients are spread over the servers; for
# pg_quorum there is a second row with all of them on the leader, for etcd too.
#	SECONDS_EACH	length of one measurement (3)
#	ROUNDS		measurements of each kind (3)
#	KINDS		which of "advisory quorum quorum-leader etcd etcd-leader redlock" (all)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

seconds=${SECONDS_EACH:-3}
rounds=${ROUNDS:-3}
kinds=${KINDS:-advisory quorum quorum-leader etcd etcd-leader redlock}

ensure_packages
want=()
command -v etcd >/dev/null || want+=(etcd-server)
command -v redis-server >/dev/null || want+=(redis-server)
[ -e /usr/include/hiredis/hiredis.h ] || want+=(libhiredis-dev)
command -v go >/dev/null || want+=(golang-go)
[ -e /usr/share/gocode/src/go.etcd.io/etcd/clientv3 ] || want+=(golang-etcd-server-dev)
[ -e /usr/include/postgresql/libpq-fe.h ] || want+=(libpq-dev)
[ ${#want[@]} = 0 ] || install_packages "${want[@]}"

work=$(new_work_dir locks)
trap bench_clean_up EXIT
trap 'exit 130' INT TERM
cd "$work"

gcc -O2 -Wall -pthread -I/usr/include/postgresql -o lockload "$repo/test/bench/lockload.c" -lpq -lhiredis
mkdir gocache
GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$work/gocache go build -o lockload-etcd "$repo/test/bench/lockload.go"

free_port()
{
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1,
		LocalAddr => "127.0.0.1")->sockport'
}

wait_for()
{
	local what=$1 i
	shift

	for i in $(seq 300); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.1
	done
	die "gave up waiting for $what"
}

# ---------- PostgreSQL: three members, and one server for pg_advisory_lock ----------

mkdir stage
bin=$("$repo/test/tools/stage.sh" "$work/stage")

sql()
{
	local n=$1
	shift
	as_server "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$work" -p "${port[$n]}" -d postgres "$@"
}

declare -A port raft
for n in 1 2 3; do
	port[$n]=$(free_port)
	raft[$n]=$(free_port)
	as_server "$bin/initdb" -A trust -N -D "$work/d$n" --no-locale --encoding=UTF8 >/dev/null
	as_server tee -a "d$n/postgresql.conf" >/dev/null <<CONF
shared_preload_libraries = 'pg_quorum'
port = ${port[$n]}
listen_addresses = ''
unix_socket_directories = '$work'
shared_buffers = 64MB
quorum.node_name = 'n$n'
quorum.address = '127.0.0.1:${raft[$n]}'
CONF
	as_server "$bin/pg_ctl" -D "$work/d$n" -l "$work/log$n" -w start >/dev/null || { tail "log$n" >&2; exit 1; }
	sql "$n" -c 'CREATE EXTENSION pg_quorum'
done
sql 1 -c 'SELECT quorum.create_cluster()' >/dev/null
sql 2 -c "SELECT quorum.join_cluster('127.0.0.1:${raft[1]}')" >/dev/null
sql 3 -c "SELECT quorum.join_cluster('127.0.0.1:${raft[1]}')" >/dev/null

conn()
{
	echo "host=$work port=${port[$1]} user=$server_user dbname=postgres"
}

quorum_leader()
{
	local n

	for n in 1 2 3; do
		[ "$(sql "$n" -c 'SELECT role FROM quorum.status')" != leader ] || { echo "$n"; return; }
	done
	die "pg_quorum has no leader"
}

# ---------- etcd ----------

declare -A eclient epeer
initial=
for n in 1 2 3; do
	eclient[$n]=$(free_port)
	epeer[$n]=$(free_port)
	initial+="${initial:+,}e$n=http://127.0.0.1:${epeer[$n]}"
done
case " $kinds " in *etcd*)
	for n in 1 2 3; do
		etcd --name "e$n" --data-dir "$work/e$n" --log-level error \
			--listen-client-urls "http://127.0.0.1:${eclient[$n]}" \
			--advertise-client-urls "http://127.0.0.1:${eclient[$n]}" \
			--listen-peer-urls "http://127.0.0.1:${epeer[$n]}" \
			--initial-advertise-peer-urls "http://127.0.0.1:${epeer[$n]}" \
			--initial-cluster "$initial" --initial-cluster-state new >"elog$n" 2>&1 &
		disown
	done
	for n in 1 2 3; do
		wait_for etcd curl -fs "http://127.0.0.1:${eclient[$n]}/health"
	done
	;;
esac

etcd_leader()
{
	local n

	for n in 1 2 3; do
		if grep -q '^etcd_server_is_leader 1' <(curl -fs "http://127.0.0.1:${eclient[$n]}/metrics"); then
			echo "127.0.0.1:${eclient[$n]}"
			return
		fi
	done
	die "etcd has no leader"
}

# ---------- Redis ----------

redis=()
case " $kinds " in *redlock*)
	for n in 1 2 3 4 5; do
		p=$(free_port)
		mkdir "r$n"
		redis-server --port "$p" --bind 127.0.0.1 --dir "$work/r$n" --save '' \
			--appendonly yes --appendfsync always --daemonize no >"rlog$n" 2>&1 &
		disown
		redis+=("127.0.0.1:$p")
		wait_for redis perl -MIO::Socket::INET -e "exit !IO::Socket::INET->new('127.0.0.1:$p')"
	done
	;;
esac

# ---------- measurements ----------

# $1: kind; $2: pairs or handover; $3: clients
measure()
{
	case $1 in
		advisory)	./lockload advisory "$2" "$3" "$seconds" "$(conn 1)" ;;
		quorum)		./lockload quorum "$2" "$3" "$seconds" "$(conn 1)" "$(conn 2)" "$(conn 3)" ;;
		quorum-leader)	./lockload quorum "$2" "$3" "$seconds" "$(conn "$(quorum_leader)")" ;;
		etcd)		./lockload-etcd "$2" "$3" "$seconds" "127.0.0.1:${eclient[1]}" "127.0.0.1:${eclient[2]}" "127.0.0.1:${eclient[3]}" ;;
		etcd-leader)	./lockload-etcd "$2" "$3" "$seconds" "$(etcd_leader)" ;;
		redlock)	./lockload redlock "$2" "$3" "$seconds" "${redis[@]}" ;;
	esac
}

chmod a+rx "$work"
for round in $(seq "$rounds"); do
	for what in 'pairs 1' 'pairs 16' 'handover 8'; do
		for kind in $kinds; do
			set -- $what
			echo "$kind $what $(measure "$kind" "$1" "$2")" >>results
		done
	done
done

median()
{
	awk -v k="$1" -v w="$2" -v n="$3" -v f="$4" '$1 == k && $2 == w && $3 == n { print $f }' results |
		sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

printf '%-14s %28s %28s %28s\n' '' '1 client' '16 clients' 'hand-over among 8'
printf '%-14s %8s %9s %9s %8s %9s %9s %8s %9s %9s\n' kind \
	pairs/s 'p50 us' 'p99 us' pairs/s 'p50 us' 'p99 us' turns/s 'p50 us' 'p99 us'
for kind in $kinds; do
	printf '%-14s' "$kind"
	for what in 'pairs 1' 'pairs 16' 'handover 8'; do
		set -- $what
		printf ' %8s %9s %9s' "$(median "$kind" "$1" "$2" 4)" "$(median "$kind" "$1" "$2" 5)" "$(median "$kind" "$1" "$2" 6)"
	done
	printf '\n'
done
