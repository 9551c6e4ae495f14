#!/bin/bash
# run.sh regress|isolation|pgtap|tap|unit|sim [FILE...] - run one layer of the
# tests, or some files of it, on a private staged server (stage.sh).
#
#	test/tools/run.sh regress sql/status.sql
#	test/tools/run.sh tap test/t/001_statements.pl
#
# Prints one line, "LAYER: N passed, N failed", and on failure what failed and
# where everything is kept. Sockets, ports, data and logs are private to the
# run, so that any number of them can go on side by side.
#	PGQ_STAGE	use this stage, made before by stage.sh
#	PGQ_KEEP=1	keep the work directory of a run that passed, too
#	PGQ_RESULTS	append "LAYER PASSED FAILED" to this file
#	VERBOSE=1	show the output of the runners as it comes
# and those of stage.sh.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

layer=${1:?usage: run.sh regress|isolation|pgtap|tap|unit|sim [FILE...]}
shift
work=$(new_work_dir "$layer")
log=$work/output
: >"$log"
passed=0
failed=0

# Everything that runs in our work directory, data directories included.
processes_of_run()
{
	local pid cwd

	for pid in $(cd /proc && echo [0-9]*); do
		cwd=$(readlink "/proc/$pid/cwd" 2>/dev/null) || continue
		case $cwd/ in "$work"/*) [ "$pid" = $$ ] || echo "$pid" ;; esac
	done
}

clean_up()
{
	local pids

	cd /
	pids=$(processes_of_run)
	[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
	if [ "$failed" = 0 ] && [ "${finished:-no}" = yes ] && [ -z "${PGQ_KEEP:-}" ]; then
		rm -rf "$work"
	fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# cmd > log, shown as it comes if so wanted; its status is ours.
logged()
{
	if [ -n "${VERBOSE:-}" ]; then
		"$@" 2>&1 | tee -a "$log" >&2
	else
		"$@" >>"$log" 2>&1
	fi
}

count()
{
	grep -cE "$1" "$log" || true
}

need_stage()
{
	stage=${PGQ_STAGE:-}
	if [ -z "$stage" ]; then
		ensure_packages
		stage=$work/stage
		mkdir "$stage"
		"$repo/test/tools/stage.sh" "$stage" >/dev/null
	fi
	pg_config=$(find_pg_config)
	bin=$stage$("$pg_config" --bindir)
	pgxs_tests=$(dirname "$(dirname "$("$pg_config" --pgxs)")")/test
}

# What the servers' user reads and writes is a copy: the repository may lie
# where only its owner can look.
copy_tests()
{
	local part

	mkdir "$work/run"
	for part in sql expected specs test; do
		[ ! -d "$repo/$part" ] || cp -r "$repo/$part" "$work/run/"
	done
	chmod -R a+rX "$work/run"
	chown -R "$server_user" "$work/run"
}

free_port()
{
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1,
		LocalAddr => "127.0.0.1")->sockport'
}

names_of()
{
	local file

	for file; do
		file=${file##*/}
		echo "${file%.*}"
	done
}

# $1: the runner; $2: folder; $3: suffix; $4: name of the test that comes first
run_pg_regress()
{
	local runner=$1 folder=$2 suffix=$3 first=$4 conf=$work/run/test/private.conf
	local status=0
	shift 4

	copy_tests
	[ $# -gt 0 ] || set -- "$work/run/$folder"/*."$suffix"
	[ -e "$work/run/$folder/$first.$suffix" ] || die "no $folder/$first.$suffix"
	{
		cat "$work/run/test/regress.conf"
		echo "quorum.address = '127.0.0.1:$(free_port)'"
		echo "unix_socket_permissions = 0777"
	} >"$conf"
	mkdir "$work/run/out"
	chown "$server_user" "$work/run/out"
	cd "$work/run"
	logged as_server env PATH="$bin:$PATH" "$runner" --bindir="$bin" \
		--temp-instance="$work/run/tmp_check" --temp-config="$conf" \
		--inputdir="$work/run" --outputdir="$work/run/out" \
		--use-existing --dbname=postgres --no-locale --encoding=UTF8 \
		"$first" $(names_of "$@" | grep -vx "$first" | sort -u) || status=$?
	passed=$(count '(^ok |\.\.\. ok)')
	failed=$(count '(^not ok |\.\.\. FAILED)')
	[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
	[ "$failed" = 0 ] || cat "$work/run/out/regression.diffs" >&2 2>/dev/null || true
}

run_prove()
{
	local status=0

	logged as_server env PATH="$bin:$PATH" LC_ALL=C "$@" || status=$?
	passed=$(count '^ok [0-9]')
	failed=$(count '^not ok [0-9]')
	[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
	[ "$failed" = 0 ] || sed -n '/^Test Summary Report/,$p' "$log" >&2
	[ "$failed" = 0 ] || grep -B1 -A12 '^not ok' "$log" | head -n 120 >&2 || true
}

run_tap()
{
	copy_tests
	[ $# -gt 0 ] || set -- "$repo"/test/t/*.pl
	cd "$work/run/test"
	gcc -std=gnu11 -O1 -Wall -Wextra -Werror -I"$("$pg_config" --includedir)" \
		tools/load.c -o load -L"$("$pg_config" --libdir)" -lpq \
		-Wl,-rpath,"$("$pg_config" --libdir)"
	gcc -std=gnu11 -O1 -Wall -Wextra -Werror -shared -fPIC tools/faults.c -o faults.so -ldl
	make -s -C "$repo/test/fault" BUILD="$work/run/test/fault-tools" PG_CONFIG="$pg_config" tools
	mkdir state
	chown "$server_user" state
	run_prove env PG_REGRESS="$pgxs_tests/regress/pg_regress" \
		TESTDIR="$work/run/test/state" TESTDATADIR="$work/run/test/state/tmp_check" \
		TESTLOGDIR="$work/run/test/state/tmp_check/log" PGQ_TEST_DIR="$work/run/test" \
		PGQ_LOAD="$work/run/test/load" PGQ_FAULT_LIBRARY="$work/run/test/faults.so" \
		PGQ_FAULT_TOOLS="$work/run/test/fault-tools" \
		prove -v --timer -I "$pgxs_tests/perl" -I "$work/run/test/perl" \
		$(for file; do echo "t/${file##*/}"; done)
}

start_server()
{
	local data=$work/run/data

	as_server "$bin/initdb" -A trust -N -D "$data" --no-locale --encoding=UTF8 >>"$log" 2>&1
	{
		cat "$work/run/test/regress.conf"
		echo "quorum.address = '127.0.0.1:$(free_port)'"
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$work/run'"
	} | as_server tee -a "$data/postgresql.conf" >/dev/null
	as_server "$bin/pg_ctl" -D "$data" -l "$work/run/server.log" -w start >>"$log" 2>&1 ||
		{ tail -n 20 "$work/run/server.log" >&2; die "the server did not start"; }
}

run_pgtap()
{
	local psql=("$bin/psql" -X -q -h "$work/run" -d postgres)

	copy_tests
	[ $# -gt 0 ] || set -- "$repo"/test/pgtap/*.sql
	cd "$work/run"
	start_server
	logged as_server "${psql[@]}" -v ON_ERROR_STOP=1 -f sql/init.sql \
		-c 'CREATE EXTENSION pgtap' || die "set-up failed, see $log"
	run_prove prove -v --timer --exec "${psql[*]} -A -t -P pager=off -v ON_ERROR_STOP=1 -f" \
		$(for file; do echo "test/pgtap/${file##*/}"; done)
	as_server "$bin/pg_ctl" -D "$work/run/data" -m fast -w stop >>"$log" 2>&1 || failed=$((failed + 1))
}

# The pure C parts: each has a Makefile that builds outside the tree and prints
# "N passed, N failed".
run_make()
{
	local part status counts p f

	ensure_packages
	for part; do
		status=0
		: >"$log.$part"
		make -s -j"${JOBS:-2}" -C "$repo/test/$part" BUILD="$work/$part" ${TARGET:-check} \
			>"$log.$part" 2>&1 || status=$?
		[ -z "${VERBOSE:-}" ] || cat "$log.$part" >&2
		p=0 f=0
		while read -r counts; do
			p=$((p + ${counts%% passed*}))
			counts=${counts#*, }
			f=$((f + ${counts%% failed*}))
		done < <(grep -oE '[0-9]+ passed, [0-9]+ failed' "$log.$part")
		[ $((p + f)) -gt 0 ] && { [ "$status" = 0 ] || [ $f -gt 0 ]; } || f=$((f + 1))
		say "  $part: $p passed, $f failed"
		[ $f = 0 ] || tail -n 40 "$log.$part" >&2
		passed=$((passed + p))
		failed=$((failed + f))
	done
}

case $layer in
	regress)
		need_stage
		run_pg_regress "$pgxs_tests/regress/pg_regress" sql sql init "$@"
		;;
	isolation)
		need_stage
		run_pg_regress "$pgxs_tests/isolation/pg_isolation_regress" specs spec \
			isolation_init "$@"
		;;
	pgtap)
		need_stage
		run_pgtap "$@"
		;;
	tap)
		need_stage
		run_tap "$@"
		;;
	unit)
		[ $# -gt 0 ] || set -- $(cd "$repo/test" && ls -d clock fault fuzz layers lock raft replication scenario storage transport 2>/dev/null)
		run_make "$@"
		;;
	sim)
		run_make sim
		;;
	*)
		die "no layer $layer"
		;;
esac

finished=yes
echo "$layer: $passed passed, $failed failed"
[ -z "${PGQ_RESULTS:-}" ] || echo "$layer $passed $failed" >>"$PGQ_RESULTS"
if [ "$failed" != 0 ]; then
	say "$layer: everything is kept in $work, output first"
	exit 1
fi
