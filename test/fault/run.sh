#!/bin/bash
# run.sh [WORKLOAD[,...] [FAULT[,...] [SECONDS [SEED]]]] - histories of clients on
# all nodes under faults, judged. Workloads: append register set bank pair lock lease
# election.
# Faults, and groups of them: see test/perl/FaultRun.pm (none, crashes, pauses,
# partitions, clocks, all, ...).
#	RUNS	how often, with seeds that follow
#	NODES, CLIENTS, LEVELS	of the cluster, in all, of reads
#	CONF	settings of the servers
set -euo pipefail

[ -z "${1:-}" ] || export FAULT_WORKLOADS=$1
[ -z "${2:-}" ] || export FAULT_FAULTS=$2
[ -z "${3:-}" ] || export FAULT_SECONDS=$3
[ -z "${4:-}" ] || export PGQ_SEED=$4
[ -z "${RUNS:-}" ] || export FAULT_RUNS=$RUNS
[ -z "${NODES:-}" ] || export FAULT_NODES=$NODES
[ -z "${CLIENTS:-}" ] || export FAULT_CLIENTS=$CLIENTS
[ -z "${LEVELS:-}" ] || export FAULT_LEVELS=$LEVELS
[ -z "${CONF:-}" ] || export FAULT_CONF=$CONF
export VERBOSE=${VERBOSE:-1}
exec "$(dirname "$0")/../tools/run.sh" tap test/t/090_fault_short.pl
