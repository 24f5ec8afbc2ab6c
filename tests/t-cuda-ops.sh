# The kernels on the emulated device against ref: all precisions; threads, blocks and streams in random order, streams
# as late as they may be; where cublasLt refuses; under ASan, UBSan and TSan; as nvcc's own PTX for two architectures.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=exitcode=66
ok "kernels, ops and emulator build plain, for ASan and UBSan, and for TSan" build -j2 cudasim kernel-ptx out/bin/tests/{steps,golden}

ops() { # bin precision largest settings… -- the ops test, over arrays of so many elements at most
	env "${@:4}" "out/$1/tests/ops" --device cudasim --precision "$2" --most "$3" >"$TMP/ops" 2>"$TMP/why"
	local status=$?
	[ $status = 0 ] && [ "$(grep -c '^ok' "$TMP/ops")" -gt 80 ] && return
	echo "status $status, $(grep -c '^ok' "$TMP/ops") passed"
	grep '^not ok' "$TMP/ops" | head -5
	head -12 "$TMP/why"
	return 1
}
for p in f32 tf32 bf16; do ok "ops as ref, $p" ops bin $p 1e9; done
for seed in 1 2 3; do
	for lazy in 0 1; do ok "... in random order, seed $seed, lazy $lazy" ops bin bf16 20000 CUSIM_SEED=$seed CUSIM_LAZY=$lazy; done
done
ok "... f32 in random order, lazy" ops bin f32 60000 CUSIM_SEED=1 CUSIM_LAZY=1
for p in f32 bf16; do
	ok "... where cublasLt refuses, $p" ops bin $p 60000 CUSIM_NOLT=1
	ok "... under ASan and UBSan, $p" ops bin-address $p 60000 CUSIM_SEED=1
	ok "... under TSan, $p" ops bin-tsan $p 3000 CUSIM_SEED=0
	for target in 80 90; do
		ok "... as nvcc's PTX for compute_$target, $p" ops bin $p 5000 CUSIM_PTX="$(echo out/cuda/cuda_*-$target.ptx | tr ' ' :)"
	done
done
ok "... under TSan in random order, lazy" ops bin-tsan bf16 3000 CUSIM_SEED=1 CUSIM_LAZY=1

golden() { # precision
	out/bin/tests/golden --device cudasim --precision $1 tests/fixtures/golden >"$TMP/golden" 2>&1 && return
	grep -v '^ok' "$TMP/golden" | head
	return 1
}
for p in f32 bf16; do ok "the reference's numbers, $p" golden $p; done

# Training: 20 steps as on the processor, and the same weights whatever the order.
steps() { env "${@:4}" out/bin/tests/steps $1 $2 $3 20 >"$TMP/steps"; }
near() { # net precision most: relative difference of a loss
	steps $1 cudasim $2 || return 1
	out/bin/tests/steps $1 cpu f32 20 | paste - "$TMP/steps" | awk -v most=$3 '
		$1 != "weights" { n++; d = $2 / $5 - 1; if (!(d < most && d > -most)) { print; bad = 1 } } END { exit bad || n != 20 }'
}
for net in gpt sae; do
	ok "20 steps of the $net as on the processor, f32" near $net f32 1e-5
	ok "... bf16" near $net bf16 2e-3
	mv "$TMP/steps" "$TMP/$net"
	again() { steps $net cudasim bf16 "$@" && cmp "$TMP/steps" "$TMP/$net"; }
	ok "... the same losses and weights in random order, lazy" again CUSIM_SEED=3 CUSIM_LAZY=1
done
ok "wrong arithmetic in a kernel of each family is noticed" env CUDA_HOME="$(realpath "$(dirname "$(realpath "$NVCC")")/..")" tests/cuda/planted
done_testing
