# lib.sh -- TAP from a shell test; source it first.
#   ok "name" command…              passes when the command succeeds
#   fails N "name" "text" command…  passes when it exits N with one line on stderr that contains text
#   same "name" a b                 passes when the files are equal
#   skip "name" "why"
#   survives WANT OUT "S,S …" command…  three lines: killed after these seconds, then run again, it writes OUT as WANT is
#   killed SECONDS command…         starts it and sends SIGKILL after that time
# BIN: folder of the tools; TMP: scratch, removed at the end; TOP: the checkout.
set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=${BIN:-$TOP/out/bin}
case $BIN in /*) ;; *) BIN=$TOP/$BIN ;; esac
TMP=$(mktemp -d "${TMPDIR:-/tmp}/featuremill.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
trap 'exit 1' INT TERM HUP
N=0
FAILED=0
# python3 with numpy: the first in PATH, or else the distribution's
PYTHON=python3
"$PYTHON" -c 'import numpy' 2>/dev/null || PYTHON=/usr/bin/python3
python3() { command "$PYTHON" "$@"; }

result() { # 0|1 name
	N=$((N + 1))
	if [ "$1" = 0 ]; then echo "ok $N - $2"; else echo "not ok $N - $2"; FAILED=$((FAILED + 1)); fi
}

ok() { # name command…
	local name=$1
	shift
	if "$@" >"$TMP/.out" 2>"$TMP/.err"; then result 0 "$name"; else
		result 1 "$name"
		sed 's/^/#   /' "$TMP/.err" "$TMP/.out" | tail -20
	fi
}

fails() { # status name text command…
	local want=$1 name=$2 text=$3 got=0
	shift 3
	"$@" >"$TMP/.out" 2>"$TMP/.err" || got=$?
	if [ "$got" = "$want" ] && [ "$(wc -l <"$TMP/.err")" = 1 ] && grep -qF -- "$text" "$TMP/.err"; then
		result 0 "$name"
	else
		result 1 "$name"
		echo "#   exit $got, want $want with one line containing '$text'"
		sed 's/^/#   /' "$TMP/.err" | tail -5
	fi
}

same() { ok "$1" cmp "$2" "$3"; }
killed() { # seconds command…: starts it, and kills it after that time if it still runs
	local delay=$1 pid
	shift
	"$@" 2>/dev/null &
	pid=$!
	sleep "$delay"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
}

survives() { # reference output delays command…: killed after each pair of delays in turn, then run to its end
	local want=$1 out=$2 delays=$3 pair delay resumed=0 differ=
	shift 3
	for pair in $delays; do
		rm -f "$out"*
		for delay in ${pair/,/ }; do
			killed "$delay" "$@"
			[ -e "$out.state" ] && resumed=$((resumed + 1))
		done
		"$@" && cmp -s "$want" "$out" || differ+=" $pair"
	done
	ok "killed and run again: the same bytes" test -z "$differ"
	ok "... went on from $resumed states" test $resumed -gt 0
	ok "... no debris" test -z "$(ls | grep -E '\.(part|state|bins)')"
}
skip() { N=$((N + 1)); echo "ok $N - $1 # SKIP $2"; }
done_testing() { echo "1..$N"; exit $((FAILED > 0)); }
