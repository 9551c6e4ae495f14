# lib.sh - what the benchmarks share: a work directory, the staged server in it,
# and an end of all that runs there. Sourced.
. "$(dirname "$0")/../tools/lib.sh"

# only what runs in our directory, by pid
bench_clean_up()
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

# $1: name of the benchmark; $2: its Perl script. Sets work and bin, goes there.
bench_begin()
{
	ensure_packages
	work=$(new_work_dir "$1")
	trap bench_clean_up EXIT
	trap 'exit 130' INT TERM
	mkdir "$work/stage"
	bin=$("$repo/test/tools/stage.sh" "$work/stage")
	cp "$repo/test/bench/$2" "$work/"
	chmod a+r "$work/$2"
	cd "$work"
}
