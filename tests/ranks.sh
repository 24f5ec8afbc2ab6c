# ranks.sh -- training by several processes of this machine; source it after lib.sh, in $TMP.
#   ranks N command…                         N processes of it
#   shared OUT command…                      1, 2 and 4 processes write the same OUT-N.safetensors and metrics
#   taken_over OUT RANK N M command…         one of N is killed, M go on, with the result of OUT-1
if ! command -v mpirun >/dev/null || [ ! -e "$BIN/../lib/mpi.so" ]; then
	skip "several processes" "no mpirun, or no mpicc when the tools were built"
	done_testing
fi
# All in this machine, more of them than processors, whoever runs the test; and no word but the tools'.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_hwloc_base_binding_policy=none
export ASAN_OPTIONS=detect_leaks=0 # MPI's
ranks() { local n=$1; shift; mpirun -q -n "$n" "$@"; }

shared() { # OUT command…: 1, 2 and 4 processes, the same bytes
	local out=$1 n
	shift
	ok "$out: one process" "$@" -o $out-1.safetensors
	for n in 2 4; do
		ok "$out: $n processes" ranks $n "$@" -o $out-$n.safetensors
		same "... the same checkpoint" $out-1.safetensors $out-$n.safetensors
		same "... the same metrics" $out-1.jsonl $out-$n.jsonl
	done
}
rank_pid() { # OUT rank: who of mpirun's children here, not in another test, writes OUT and has this rank
	local p
	for p in $(pgrep -f -- "-o $1"); do
		[ "/proc/$p/cwd" -ef . ] && tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$2" && echo "$p" && return
	done
}
taken_over() { # OUT killed-rank n m command…: one of n is killed when there is a state, m go on
	local out=$1 rank=$2 n=$3 m=$4 pid status
	shift 4
	ranks "$n" "$@" -o k-$out.safetensors 2>err &
	pid=$!
	for _ in $(seq 1000); do [ -e k-$out.safetensors.state ] && break; sleep 0.01; done
	kill -KILL "$(rank_pid k-$out.safetensors "$rank")" 2>/dev/null
	wait $pid
	status=$?
	ok "$out: rank $rank of $n killed: the job has failed" test $status != 0 -a ! -e k-$out.safetensors
	ok "... and left a state" test -e k-$out.safetensors.state
	ok "... $m go on" ranks "$m" "${@/-q/--save-every=1}" -o k-$out.safetensors
	cp .err log
	ok "... from there" grep -q "going on after" log
	same "... the same checkpoint" $out-1.safetensors k-$out.safetensors
	same "... the same metrics" $out-1.jsonl k-$out.jsonl
	rm -f k-$out.*
}
