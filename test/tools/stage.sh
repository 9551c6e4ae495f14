#!/bin/bash
# stage.sh DIR - put a private copy of the server tree, with pg_quorum built
# from the current tree installed in it, into DIR, and print its bin directory.
#
# A PostgreSQL tree can be moved: binaries find lib and share from where they
# themselves lie. So real copies of the binaries and links to the rest make a
# server into which an extension can be installed without touching the system.
#
# The extension is built in a scratch directory that is kept, so that only what
# changed is compiled again; one a server version and user, under a lock. Set
#	PGQ_BUILD	to have a scratch directory of your own
#	PGQ_REV		to build that commit instead of the work tree's files
#	PG_CONFIG	to build for another server
set -euo pipefail
. "$(dirname "$0")/lib.sh"

stage=${1:?usage: stage.sh DIR}
pg_config=$(find_pg_config)
build=${PGQ_BUILD:-/tmp/pgq-build-$(id -un)}/$("$pg_config" --version | tr -c 'A-Za-z0-9.\n' _)
case $pg_config in *assert*) build=$build-assert ;; esac

parts=(Makefile pg_quorum.control sqlsrc src)

# Bring $2 to the content of $1, leaving alone the times of files that are the
# same, since make goes by them.
sync_tree()
{
	local from=$1 to=$2 file

	while IFS= read -r -d '' file; do
		if ! cmp -s "$from/$file" "$to/$file"; then
			mkdir -p "$to/$(dirname "$file")"
			cp "$from/$file" "$to/$file"
		fi
	done < <(cd "$from" && find "${parts[@]}" -type f \
		\( -name '*.[ch]' -o -name '*.sql' -o -name Makefile -o -name '*.control' \) -print0)
	while IFS= read -r -d '' file; do
		[ -e "$from/$file" ] || rm -f "$to/$file" "${to:?}/${file%.c}".[od]
	done < <(cd "$to" && find "${parts[@]}" -type f \
		\( -name '*.[ch]' -o -name '*.sql' \) -print0)
}

build_extension()
{
	local from=$repo

	if [ -n "${PGQ_REV:-}" ]; then
		from=$build/rev
		rm -rf "$from"
		mkdir -p "$from"
		git -C "$repo" archive "$PGQ_REV" "${parts[@]}" | tar -x -C "$from"
	fi
	mkdir -p "$build/tree/src" "$build/tree/sqlsrc"
	sync_tree "$from" "$build/tree"
	# A file that went away leaves no newer prerequisite behind.
	(cd "$build/tree" && echo src/*.c src/*/*.c sqlsrc/*.sql) >"$build/files.new"
	if ! cmp -s "$build/files.new" "$build/files"; then
		rm -f "$build/tree"/*.so "$build/tree"/pg_quorum--1.0.sql
		mv "$build/files.new" "$build/files"
	fi
	make -s -j"${JOBS:-2}" -C "$build/tree" PG_CONFIG="$pg_config" >"$build/log" 2>&1 ||
		{ cat "$build/log" >&2; die "the build failed"; }
}

# $1: one of pg_config's directories; $2: cp's way
copy_dir()
{
	local dir

	dir=$("$pg_config" "$1")
	mkdir -p "$stage$dir"
	cp "$2" "$dir/." "$stage$dir/"
}

# Sets bin. A stage is used again as it is, but for the extension.
stage_server()
{
	bin=$stage$("$pg_config" --bindir)
	[ ! -x "$bin/postgres" ] || return 0
	copy_dir --bindir -rL
	copy_dir --pkglibdir -rs
	copy_dir --sharedir -rs
	# should the system have one
	find "$stage" -not -type d -name 'pg_quorum*' -delete
}

mkdir -p "$build" "$stage"
stage=$(cd "$stage" && pwd)
exec 9>"$build/.lock"
flock 9
build_extension
stage_server
make -s -C "$build/tree" PG_CONFIG="$pg_config" DESTDIR="$stage" install >"$build/log" 2>&1 ||
	{ cat "$build/log" >&2; die "make install into the stage failed"; }
chmod 0755 "$stage"
echo "$bin"
