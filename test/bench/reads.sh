#!/bin/bash
# reads.sh - reads under each level of consistency, against plain PostgreSQL.
#
# Three pg_quorum servers and one server without the extension, on this machine.
# A SELECT by primary key, prepared, by pgbench; each measurement is next to one
# of the plain server, A B A B ..., so that a machine that slows down slows both;
# what counts is the ratio. Processor time is that of all servers' processes.
#	SECONDS_EACH	length of one measurement (2)
#	ROUNDS		measurements of each kind, medians are reported (5)
#	CLIENTS		client counts ("1 4 16")
#	LEVELS		which of "eventual strong lease causal bounded_staleness" (all)
#	WRITERS		pgbench clients that write on the leader meanwhile (0)
set -euo pipefail
. "$(dirname "$0")/../tools/lib.sh"

ensure_packages
work=$(new_work_dir reads)
# only what runs in our directory, by pid
clean_up()
{
	local pid

	cd /
	for pid in $(cd /proc && echo [0-9]*); do
		case $(readlink "/proc/$pid/cwd" 2>/dev/null)/ in
			"$work"/*) kill -9 "$pid" 2>/dev/null || true ;;
		esac
	done
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

mkdir "$work/stage"
bin=$("$repo/test/tools/stage.sh" "$work/stage")
cp "$repo/test/bench/reads.pl" "$work/"
chmod a+r "$work/reads.pl"
cd "$work"
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-2}" ROUNDS="${ROUNDS:-5}" \
	CLIENTS="${CLIENTS:-1 4 16}" WRITERS="${WRITERS:-0}" \
	LEVELS="${LEVELS:-eventual strong lease causal bounded_staleness}" perl "$work/reads.pl" "$work"
