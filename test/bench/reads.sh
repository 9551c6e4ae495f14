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
. "$(dirname "$0")/lib.sh"

bench_begin reads reads.pl
as_server env PATH="$bin:$PATH" SECONDS_EACH="${SECONDS_EACH:-2}" ROUNDS="${ROUNDS:-5}" \
	CLIENTS="${CLIENTS:-1 4 16}" WRITERS="${WRITERS:-0}" \
	LEVELS="${LEVELS:-eventual strong lease causal bounded_staleness}" perl "$work/reads.pl" "$work"
