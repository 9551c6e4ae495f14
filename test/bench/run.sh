#!/bin/bash
# run.sh - pg_quorum against native synchronous replication, in one run.
#
# Three servers of each kind on this machine: a pg_quorum cluster, and one
# primary with two standbys and synchronous_standby_names = 'ANY 1 (*)'. All
# take the same pgbench load in turn, A B A B ..., so that a machine that slows
# down slows both; what counts is the ratio. See bench.pl for what is measured.
#	SECONDS_EACH	length of one measurement (4)
#	ROUNDS		measurements of each kind, medians are reported (5)
#	CLIENTS		client counts ("1 4 16")
#	PARTS		which of "leader spread idle" (all)
set -euo pipefail
. "$(dirname "$0")/../tools/lib.sh"

ensure_packages
work=$(new_work_dir bench)
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
cp "$repo/test/bench/bench.pl" "$work/"
chmod a+r "$work/bench.pl"
cd "$work"
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-4}" ROUNDS="${ROUNDS:-5}" \
	CLIENTS="${CLIENTS:-1 4 16}" PARTS="${PARTS:-leader spread idle}" \
	perl "$work/bench.pl" "$work"
