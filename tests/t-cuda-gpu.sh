# check-gpu without a card: it says so; over the emulator, with stand-ins for NVIDIA's programs, it finds what is planted.
. "$(dirname "$0")/cuda/needs.sh"
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
build -j2 out/lib/cudasim.so out/bin/tests/{ops,golden,steps,card} >/dev/null || exit 1
if ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
	skip "no card" "there is one: run make check-gpu"
else
	fails 1 "no card: one line" "check-gpu: no card to check: ops: device cuda: " env BIN=out/bin tests/gpu
fi

mkdir -p "$TMP/path" "$TMP/bin/tests"
printf '#!/bin/sh\necho "NVIDIA A100-SXM4-80GB, 580.10, 81920 MiB, 1410 MHz, 400 W"\n' >"$TMP/path/nvidia-smi"
cat >"$TMP/path/compute-sanitizer" <<'ENDTOOL'
#!/bin/bash
tool=$2
while [ "$1" != --error-exitcode ]; do shift; done
"${@:3}" || exit
[ "$tool" = "${FINDS-}" ] && { echo "========= ERROR SUMMARY: 1 error"; exit "$2"; }
echo "========= ERROR SUMMARY: 0 errors"
ENDTOOL
cat >"$TMP/path/nsys" <<'ENDTOOL'
#!/bin/bash
[ "$1" = stats ] || exit 0
cat <<'ENDTABLE'
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
 60.0,90000000,80,1125000.0,1125000.0,1,2,0.0,"void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x256>(T1::Params)"
 30.0,56000000,40,1400000.0,1400000.0,1,2,0.0,"void cross_entropy_kernel<(bool)1, (int)1>(float *, uint4 *, const float *, int)"
ENDTABLE
awk -F'\t' 'NR > 2 { sub(/<.*/, "", $1); if (!n[$1]++) print "0.1,1000,1,1.0,1.0,1,1,0.0,\"void " $1 "(float *)\"" }' tests/cuda/registers.tsv |
	grep -v cross_entropy
ENDTOOL
chmod +x "$TMP"/path/*
export PATH=$TMP/path:$PATH
rehearse() { tests/gpu --device cudasim >"$TMP/report" 2>&1; }
says() { grep -qF -- "$1" "$TMP/report" || { cat "$TMP/report"; return 1; }; }
ok "a rehearsal goes well" env BIN=out/bin bash -c 'tests/gpu --device cudasim >"$0" 2>&1 || { cat "$0"; exit 1; }' "$TMP/report"
ok "... and says that it is one" says "times below mean nothing"
ok "... all four tools" eval '[ $(grep -c "^ok .*compute-sanitizer .*: ERROR SUMMARY: 0 errors" "$TMP/report") = 4 ]'
# the floor of the head in bf16: five passes over 1.24 GB at 2 TB/s, and what is around them
head_floor() { awk -F' *[|] *' '$2 == "lmhead" && $3 == "bf16" { n++; bad = $5 < 3.09 || $5 > 3.25 || $6 != "memory" } END { exit bad || n != 1 }' "$TMP/report"; }
ok "... the head's floor on an A100" head_floor
ok "... the autoencoder's step: 172 GFLOP in 0.551 ms" eval "grep -q '^| step of the autoencoder, 8192 rows | bf16 |.*| 0.551 | FLOPs |' '$TMP/report'"
# 40 micro-batches: each reads and writes 1.24 GB in bf16, 1.24 ms at 2 TB/s of the 1.4 that the profiler says
ok "... a kernel by the profiler, and its floor" eval \
	"grep -Eq '^[|] gpt: cross_entropy_kernel [|] bf16 [|] 40 [|] 1400.0 [|] 124[0-9].[0-9] [|] 8[89] % [|]' '$TMP/report'"

# planted: an op that differs, a loss, other weights the second time, a tool that finds something
for t in golden card; do ln -s "$TOP/out/bin/tests/$t" "$TMP/bin/tests/$t"; done
printf '#!/bin/bash\n"%s" "$@"\n[[ "$*" != *f32* || "$*" = *tf32* ]] || echo "not ok 999 - planted"\n' "$TOP/out/bin/tests/ops" >"$TMP/bin/tests/ops"
cat >"$TMP/bin/tests/steps" <<ENDSTEPS
#!/bin/bash
"$TOP/out/bin/tests/steps" "\$@" | awk -F'\t' -v OFS='\t' -v net=\$1 -v p=\$3 -v when=\$(date +%s%N) '
	net == "gpt" && p == "f32" && \$1 == 5 { \$2 *= 1.001 }
	net == "sae" && p == "bf16" && \$1 == "weights" { \$2 = when } { print }'
ENDSTEPS
chmod +x "$TMP"/bin/tests/{ops,steps}
BIN=$TMP/bin FINDS=racecheck rehearse
ok "what is planted is failure" test $? = 1
for name in "ops as ref, the same bytes twice, f32" "8 steps of the gpt, f32" "8 steps of the sae, bf16: the same weights again" \
	"compute-sanitizer racecheck"; do
	ok "... found: $name" says "NOT OK $name"
done
ok "... and nothing else" eval '[ $(grep -c "^NOT OK" "$TMP/report") = 4 ]'
done_testing
