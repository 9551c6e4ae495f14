#!/bin/bash
# join.sh - how long a server takes to join, and what that costs the others.
#
# A cluster of three on this machine with SIZE_MB of rows in several tables, one
# of them partitioned, and clients that write on all of them. Throughput is
# measured without, during and after the join of a fourth server; so is the
# largest private memory of any process of the new server, and of the others.
#	SIZE_MB		rows to be copied (512)
#	WORKERS		quorum.copy_workers ("2"); several: one join each
#	CLIENTS		pgbench clients, a third on each member (6); 0: an idle cluster
#	WIDE_MB		a table more, with one value of that size (0: none)
#	SECONDS_EACH	length of the measurements before and after (10)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

bench_begin join join.pl
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-10}" SIZE_MB="${SIZE_MB:-512}" \
	WIDE_MB="${WIDE_MB:-0}" WORKERS="${WORKERS:-2}" CLIENTS="${CLIENTS:-6}" perl "$work/join.pl" "$work"
