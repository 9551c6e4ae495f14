#!/bin/bash
# judge_all.sh CHECK DIR - every history in DIR must be judged as its own
# comments say:
#	# check: CHECKER,...
#	# expect: ok | unreadable | NAME	part of the name of an anomaly
set -u
check=$1
passed=0
failed=0

for file in "$2"/*.hist; do
	checkers=$(sed -n 's/^# check: //p' "$file")
	expect=$(sed -n 's/^# expect: //p' "$file")
	output=$("$check" "$checkers" "$file" 2>&1)
	status=$?
	case $expect in
		ok) [ $status = 0 ] ;;
		unreadable) [ $status = 2 ] ;;
		*) [ $status = 1 ] && grep -q "^ANOMALY [^:]*$expect" <<<"$output" ;;
	esac && passed=$((passed + 1)) && continue
	failed=$((failed + 1))
	printf 'FAILED: %s, expected %s, status %d:\n%s\n' "$file" "$expect" $status "$output"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
