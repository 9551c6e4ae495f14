#!/bin/bash
# run.sh BUILD SEEDS [NAME...]: puts one deliberate bug after the other into a
# copy of its source file, links the simulator with it, and hunts for it.
#
# core.txt and log.txt hold the bugs:
#	mutant NAME FILE [SEED]	FILE below src; first seed to try, 1
#	<<<<				the text to replace, which must occur exactly once
#	====				what to put there
#	>>>>
# A mutant whose text is not found is stale: that is a failure too.
set -u
here=$(cd "$(dirname "$0")" && pwd)
sim=$(dirname "$here")
src=$(cd "$sim/../../src" && pwd)
build=$1
seeds=$2
shift 2
objects=$(dirname "$build")/gcc
mkdir -p "$build"
rm -rf "${build:?}"/*

# one file NAME.c per mutant, and a list
perl - "$src" "$build" "$here"/*.txt <<'PERL' || exit 2
use strict;
my ($src, $build, @files) = @ARGV;
open(my $list, '>', "$build/list") or die;
for my $file (@files)
{
	open(my $in, '<', $file) or die "$file: $!";
	my $text = do { local $/; <$in> };
	while ($text =~ /^mutant (\S+) (\S+)(?: (\d+))?\n<<<<\n(.*?)^====\n(.*?)^>>>>\n/gms)
	{
		my ($name, $path, $first, $old, $new) = ($1, $2, $3 || 1, $4, $5);
		open(my $f, '<', "$src/$path") or die "$src/$path: $!";
		my $code = do { local $/; <$f> };
		chomp($old, $new);
		my $n = () = $code =~ /\Q$old\E/g;
		print $list "$name $path $n $first\n";
		next if $n != 1;
		$code =~ s/\Q$old\E/$new/;
		open(my $out, '>', "$build/$name.c") or die;
		print $out $code;
	}
}
PERL

caught=0
missed=0
while read -r name path n first; do
	if [ $# -gt 0 ]; then
		wanted=no
		for w in "$@"; do [[ $name == $w* ]] && wanted=yes; done
		[ $wanted = yes ] || continue
	fi
	if [ "$n" != 1 ]; then
		echo "$name: STALE, its text occurs $n times in $path"
		missed=$((missed + 1))
		continue
	fi
	object=lib_$(basename "$path" .c).o
	if ! gcc -std=gnu11 -g -O2 -fno-strict-aliasing -fwrapv -w -I"$src" -I"$src/$(dirname "$path")" \
		-c "$build/$name.c" -o "$build/mutant.o" 2>"$build/errors"; then
		echo "$name: does not compile: $(head -1 "$build/errors")"
		missed=$((missed + 1))
		continue
	fi
	gcc -o "$build/sim" $(ls "$objects"/*.o | grep -v "/$object\$") "$build/mutant.o" || exit 2
	if result=$(nice "$build/sim" hunt "$seeds" "$first"); then
		caught=$((caught + 1))
	else
		missed=$((missed + 1))
	fi
	echo "$name: $result" | cut -c1-170
done <"$build/list"
echo "mutants: $caught caught, $missed missed"
[ $missed -eq 0 ]
