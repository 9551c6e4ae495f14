#!/bin/bash
# mutants.sh [NAME...]: puts one bug of mutants.txt after the other into a copy
# of its file, links the tests with it, and says which test sees it: those of
# its own P-id first, then all. A mutant that survives, or whose edit changes
# nothing, is a failure. Called by the Makefile, which sets BUILD and CC.
set -u
here=$(cd "$(dirname "$0")" && pwd)
src=$(cd "$here/../../src" && pwd)
work=$BUILD/mutants
mkdir -p "$work"
caught=0
missed=0

while IFS='|' read -r name file edit; do
	case $name in '' | '#'*) continue ;; esac
	if [ $# -gt 0 ]; then
		wanted=no
		for w; do [[ $name == "$w"* ]] && wanted=yes; done
		[ $wanted = yes ] || continue
	fi
	copy=$work/$name.c
	sed -e "$edit" "$src/raft/$file" >"$copy"
	if cmp -s "$copy" "$src/raft/$file"; then
		echo "$name: STALE, the edit changes nothing in $file"
		missed=$((missed + 1))
		continue
	fi
	if ! $CC -w -c "$copy" -o "$work/$name.o" 2>"$work/$name.err"; then
		echo "$name: DOES NOT COMPILE: $(head -n 1 "$work/$name.err")"
		missed=$((missed + 1))
		continue
	fi
	objects=()
	for o in "$BUILD"/gcc/*.o; do
		[ "$o" = "$BUILD/gcc/${file%.c}.o" ] || objects+=("$o")
	done
	gcc -o "$work/tests" "$work/$name.o" "${objects[@]}" || exit 2
	own=${name%%-*}
	if timeout 120 "$work/tests" -x "${own}_" >"$work/$name.out" 2>&1 &&
		timeout 300 "$work/tests" -x >"$work/$name.out" 2>&1; then
		echo "$name: SURVIVES"
		missed=$((missed + 1))
	else
		echo "$name: $(grep -m 1 -oE '^FAILED \S+' "$work/$name.out" | cut -d' ' -f2) fails"
		caught=$((caught + 1))
	fi
	rm -f "$work/$name.o"
done <"$here/mutants.txt"
echo "mutants: $caught caught, $missed missed"
[ $missed = 0 ]
