#!/bin/bash
# build-postgres.sh MAJOR [assert] - build a PostgreSQL from Debian's source
# package and print the path of its pg_config.
#
# 15 comes from bookworm, 17 from trixie, 18 from sid. The mirror is the one
# this machine uses already: deb-src lines are made from its own entries, in an
# apt state of our own, so that the system's is left alone. Built once; asked
# again, it answers from the cache (lib.sh, cache_dir). Nothing is installed
# into the system but bison and flex for 17 and later, whose tarballs come
# without the generated parsers.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

major=${1:?usage: build-postgres.sh MAJOR [assert]}
flavour=${2:-plain}
jobs=${JOBS:-2}
cache=$(cache_dir)
prefix=$cache/pg$major-$flavour
src=$cache/src/$major

case $major in
	15) suite=bookworm ;;
	17) suite=trixie ;;
	18) suite=sid ;;
	*) die "Debian has no suite with PostgreSQL $major" ;;
esac

if [ -e "$prefix/.done" ]; then
	echo "$prefix/bin/pg_config"
	exit 0
fi
mkdir -p "$src"
exec 9>"$cache/.lock-$major-$flavour"
flock 9
if [ -e "$prefix/.done" ]; then
	echo "$prefix/bin/pg_config"
	exit 0
fi
log=$cache/pg$major-$flavour.log
say "building PostgreSQL $major ($flavour); log in $log"

# The first Debian archive this machine knows, from either format of entry.
mirror_of_this_machine()
{
	{
		sed -n 's/^URIs:[[:space:]]*\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources || true
		sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^ ]*\).*/\2/p' \
			/etc/apt/sources.list /etc/apt/sources.list.d/*.list || true
	} 2>/dev/null | sed -n '/security/d; \:/debian/*$:{p;q}'
}

private_apt()
{
	local state=$cache/apt/$suite

	apt-get -o Dir::Etc::SourceList="$state/sources.list" \
		-o Dir::Etc::SourceParts=/dev/null -o Dir::State="$state/state" \
		-o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$state/cache" \
		-o APT::Sandbox::User="$(id -un)" -q "$@"
}

fetch()
{
	local mirror state=$cache/apt/$suite
	local keys=/usr/share/keyrings/debian-archive-keyring.gpg

	# a tarball that lies there already, perhaps put there by hand, will do
	if ls "$src"/postgresql-"$major"_*.orig.tar.* >/dev/null 2>&1; then
		return 0
	fi
	mirror=$(mirror_of_this_machine)
	[ -n "$mirror" ] || die "no Debian archive in this machine's apt configuration"
	mkdir -p "$state/state/lists/partial" "$state/cache/archives/partial"
	echo "deb-src [signed-by=$keys] $mirror $suite main" >"$state/sources.list"
	private_apt update
	(cd "$src" && private_apt source --download-only "postgresql-$major")
}

build()
{
	local tree options=(--without-icu --without-readline --without-zlib
		--enable-tap-tests --enable-debug)

	tree=$(mktemp -d "$cache/build-$major.XXXXXX")
	tar -xf "$src"/postgresql-"$major"_*.orig.tar.* -C "$tree" --strip-components=1
	[ "$flavour" != assert ] || options+=(--enable-cassert)
	cd "$tree"
	./configure --prefix="$prefix" "${options[@]}" CFLAGS="-O1 -g -fno-omit-frame-pointer"
	make -s -j"$jobs" world-bin
	rm -rf "$prefix"
	make -s install-world-bin
	cd "$cache"
	rm -rf "$tree"
}

# pgTAP is SQL only: the packaged files fit every major.
borrow_pgtap()
{
	local from=/usr/share/postgresql/15/extension

	if ls "$from"/pgtap* >/dev/null 2>&1; then
		cp "$from"/pgtap* "$("$prefix/bin/pg_config" --sharedir)/extension/"
	fi
}

if [ "$major" -ge 17 ]; then
	missing=()
	for tool in bison flex; do
		command -v $tool >/dev/null || missing+=($tool)
	done
	[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
fi

# in a shell of its own: -e counts for nothing inside a condition
export -f fetch build borrow_pgtap private_apt mirror_of_this_machine die say
export cache prefix src suite major flavour jobs
bash -euo pipefail -c 'fetch; build; borrow_pgtap' >"$log" 2>&1 9>&- ||
	{ tail -n 20 "$log" >&2; die "the build failed; all of it is in $log"; }
chmod -R a+rX "$prefix"
touch "$prefix/.done"
echo "$prefix/bin/pg_config"
