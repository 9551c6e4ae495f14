#!/bin/bash
# join.sh - how long a server takes to join, and what that costs the others.
#
# A cluster of three on this machine with SIZE_MB of rows in several tables, one
# of them partitioned, and clients that write on all of them. Throughput is
# measured without, during and after the join of a fourth server; so is the
# largest private memory of any process of the new server.
#	SIZE_MB		rows to be copied (512)
#	WORKERS		quorum.copy_workers ("2"); several: one join each
#	CLIENTS		pgbench clients, a third on each member (6); 0: an idle cluster
#	SECONDS_EACH	length of the measurements before and after (10)
set -euo pipefail
. "$(dirname "$0")/../tools/lib.sh"

ensure_packages
work=$(new_work_dir join)
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
cp "$repo/test/bench/join.pl" "$work/"
chmod a+r "$work/join.pl"
cd "$work"
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-10}" SIZE_MB="${SIZE_MB:-512}" \
	WORKERS="${WORKERS:-2}" CLIENTS="${CLIENTS:-6}" perl "$work/join.pl" "$work"
