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
. "$(dirname "$0")/lib.sh"

bench_begin bench bench.pl
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-4}" ROUNDS="${ROUNDS:-5}" \
	CLIENTS="${CLIENTS:-1 4 16}" PARTS="${PARTS:-leader spread idle}" \
	perl "$work/bench.pl" "$work"
