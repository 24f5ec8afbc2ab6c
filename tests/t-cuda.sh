# The CUDA path without a card: an emulated runtime that finds what a sanitizer of a real device would.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=exitcode=66
DEMO=out/cuda/demo
ok "emulator and demo build without a warning, with g++ and clang++" build -j2 cusim WERROR=-Werror

quiet() { "$@" >"$TMP/.log" 2>&1; }
clean() { # build settings… -- the demo's own tests pass
	local build=$1
	shift
	env "$@" "$DEMO-$build" && ! grep -q '^not ok' "$TMP/.out"
}
for seed in 0 1 2 3; do
	for lazy in 0 1; do ok "demo, seed $seed, lazy $lazy" clean plain CUSIM_SEED=$seed CUSIM_LAZY=$lazy; done
	ok "... under ASan and UBSan" clean address CUSIM_SEED=$seed
done
ok "... under TSan" clean thread CUSIM_SEED=0
ok "... under TSan, random order" clean thread CUSIM_SEED=1 CUSIM_LAZY=1
ok "... where cublasLt refuses" clean plain CUSIM_NOLT=1
# nvcc's own code of the same kernels, for two architectures
for target in 80 90; do ok "... as nvcc's PTX for compute_$target" clean plain CUSIM_PTX=out/cuda/demo-$target.ptx; done

# Which check finds which bug: plain, random and lazy, ASan and UBSan, TSan, nvcc's PTX; none finds all.
found() { # bug -- a line like 1-1-1
	local line=
	quiet env CUSIM_SEED=0 $DEMO-plain bug $1 && line+=- || line+=1
	quiet env CUSIM_SEED=1 CUSIM_LAZY=1 $DEMO-plain bug $1 && line+=- || line+=1
	quiet env CUSIM_SEED=1 $DEMO-address bug $1 && line+=- || line+=1
	quiet env CUSIM_SEED=0 $DEMO-thread bug $1 && line+=- || line+=1
	quiet env CUSIM_PTX=out/cuda/demo-80.ptx:out/cuda/bugs-80.ptx $DEMO-plain bug $1 && line+=- || line+=1
	echo $line
}
finds() { # bug want
	local got
	got=$( { found $1; } 2>/dev/null)
	[ "$got" = "$2" ] || { echo "found by $got, should be $2"; return 1; }
}
while read -r bug want name; do
	ok "planted bug $bug ($name) is found by $want" finds $bug $want
done <<'END'
1 11111 missing __syncthreads
2 --1-1 global memory out of bounds
3 11111 shared memory out of bounds
4 ---1- += on global memory without an atomic
5 11111 shuffle mask naming absent lanes
6 1111- divergent barriers, which nvcc makes one of
7 --1-1 misaligned vector load
8 11111 uninitialised shared memory
9 11111 missing __syncwarp
10 ---1- read of another block's output
11 11111 more shared memory than opted in to
20 11111 host pointer to a kernel
21 -1--- no wait for the copy
22 -1--- pinned buffer refilled early
23 -1--- device buffer overwritten early
24 -1--- no synchronisation before the result is read
25 11111 host reads device memory
26 11111 product that runs past its operand
27 11111 product by an algorithm for operands aligned otherwise
END
# The same of the stand-in for NCCL, between three processes.
export CUSIM_DEVICES=3 CUSIM_PATIENCE=1
ok "three processes exchange" out/cuda/nccl-bugs none
told() { out/cuda/nccl-bugs "$1" 2>&1 | grep -F "$2"; }
while read -r bug text; do ok "... of which one is wrong ($bug): $text" told $bug "$text"; done <<'END'
size receives 100000 values from rank 1, which sends 99999
late has waited 1 s to receive from rank 1, which does not do the same
peer nobody takes what rank 1 sent to rank 0
untaken nobody takes what rank 0 sent to rank 1
itself rank 1 sends to itself
host is not device memory
past runs past the end of its device allocation
freed is freed device memory
overlap what is received overlaps what is sent
stream rank 1 uses a second stream
card rank 2: ncclCommInitRank: 5
END
unset CUSIM_DEVICES CUSIM_PATIENCE

# Every call of the runtime that can fail does so once; each time the program says which and ends.
CUSIM_COUNT="$TMP/tally" $DEMO-plain >/dev/null
CALLS=$(awk -F'\t' '$1 == "calls" { print $3 }' "$TMP/tally")
fails_everywhere() {
	local n
	for ((n = 1; n <= CALLS; n++)); do
		CUSIM_FAIL=$n $DEMO-plain >/dev/null 2>"$TMP/.why"
		[ $? = 3 ] && [ "$(wc -l <"$TMP/.why")" = 1 ] || { echo "call $n: $(cat "$TMP/.why")"; return 1; }
	done
}
ok "each of $CALLS calls of the runtime fails once, and is reported" fails_everywhere

# A dry run counts what a real one does, and executes nothing.
CUSIM_DRY=1 CUSIM_COUNT="$TMP/dry" $DEMO-plain >/dev/null
ok "a dry run's tally is that of a real one" cmp "$TMP/tally" "$TMP/dry"
tallied() { # kind name column want
	local got
	got=$(awk -F'\t' -v k="$1" -v n="$2" -v c="$3" '$1 == k && $2 == n { print $c }' "$TMP/tally")
	[ "$got" = "$4" ] || { echo "$1 $2: $got, not $4"; return 1; }
}
ok "FLOPs of the head's product" tallied gemm "1003 37 256 bf16 bf16" 5 $((2 * 1003 * 37 * 256))
ok "... its operands" tallied gemm "1003 37 256 bf16 bf16" 6 $((2 * 256 * (1003 + 37)))
ok "bytes announced by a launcher" tallied kernel transpose_kernel 6 $((4 * 45 * 70))
# What launchers announce is what the PTX touches: within 2 % and 256 bytes, each byte counted once.
CUSIM_PTX=out/cuda/demo-80.ptx CUSIM_COUNT="$TMP/touched" $DEMO-plain >/dev/null
announced() {
	awk -F'\t' 'function off(a, b) { return a > 1.02 * b + 256 || b > 1.02 * a + 256 }
		$1 == "kernel" { n++; if (off($6, $8) || off($7, $9)) { print; bad = 1 } } END { exit bad || n < 6 }' "$TMP/touched"
}
ok "bytes announced are bytes touched, kernel by kernel" announced
ok "launches: 6 steps and 3 graphs of 2" tallied kernel saxpy_kernel 3 12

occupies() { echo "xent_kernel 40 1024 256" | out/cuda/occupancy | grep -q "A100 6 75%.*RTX3090 6 100%"; }
ok "occupancy without a card: 40 registers, 1 KiB, 256 threads" occupies
ok "floors: 533 KB a token, 1.30 GB a step" eval 'python3 tests/cuda/floors.py --tsv | grep -c "533040\|1300234240" | grep -qx 2'
done_testing
