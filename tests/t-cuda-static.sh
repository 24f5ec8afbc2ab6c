# The kernels as nvcc makes them, without a card: no warning for any of the cards they are built for, and the
# registers, shared memory and occupancy that are checked in.  `make registers` writes that table anew.
. "$(dirname "$0")/cuda/needs.sh"
HOME_OF_CUDA=$(dirname "$(dirname "$(realpath "$NVCC")")")
[ -e "$HOME_OF_CUDA/lib64/libcublasLt.so" ] || skip_all "cuBLAS in $HOME_OF_CUDA/lib64"
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
SO=out/lib/cuda.so
# nvcc makes errors of ptxas's warnings: spills, local memory, and doubles where none are meant.
ok "no warning for sm_80, 86, 89, 90, 100, 120" build -j2 $SO WERROR=-Werror
planted() { # text warning -- a kernel with a mistake does not build
	printf '#include "cu.h"\n%s\n' "$1" >"$TMP/planted.cu"
	! "$NVCC" -std=c++17 -O3 -Ikernels -Werror all-warnings -Xptxas -warn-spills,-warn-lmem-usage,-warn-double-usage \
		-arch=sm_80 -c -o "$TMP/planted.o" "$TMP/planted.cu" 2>"$TMP/.why" && grep -qi "$2" "$TMP/.why"
}
ok "... a stray double is one" planted '__global__ void k(float *x) { x[threadIdx.x] *= 0.1; }' double
ok "... local memory is one" planted '__global__ void k(float *x, const int *at) { float a[64] = {}; for (int i = 0; i < 64; i++) a[at[i] & 63] += x[i];
	for (int i = 0; i < 64; i++) x[i] = a[i]; }' 'local memory'
ok "... an unused variable is one" planted '__global__ void k(float *x) { int unused = 3; x[0] = 1; }' 'never referenced'
only() { [ "$(nm -D --defined-only $SO | awk '$2 ~ /[A-Z]/ { print $3 }')" = featuremill_plugin ]; }
ok "the plugin exports its one symbol" only
linked() { readelf -d $SO | awk '/NEEDED/ { print $NF }' | grep -E '^\[lib(cu|nv)' | sort | tr -d '[]\n' ; }
ok "... links cuBLAS, and cudart statically" eval '[[ $(linked) =~ ^libcublas.so.[0-9]+libcublasLt.so.[0-9]+$ ]]'
made_for() { # every target's code is in it, and PTX for cards to come
	local sm
	for sm in 80 86 89 90 100 120; do grep -qa "sm_$sm" $SO || { echo "not for sm_$sm"; return 1; }; done
}
ok "... has code of each target" made_for

build -j2 kernel-ptx out/cuda/occupancy >/dev/null
table() { tests/cuda/registers "$HOME_OF_CUDA/bin/ptxas" out/cuda/occupancy out/cuda/cuda_*-[89]0.ptx; }
table >"$TMP/registers.tsv"
if [ "$(head -1 "$TMP/registers.tsv")" = "$(head -1 tests/cuda/registers.tsv)" ]; then
	ok "registers, shared memory and occupancy are those of registers.tsv" diff -U0 tests/cuda/registers.tsv "$TMP/registers.tsv"
else
	skip "registers are those of registers.tsv" "that is of $(sed 's/^# //; s/;.*//; q' tests/cuda/registers.tsv)"
fi
frugal() { awk -F'\t' '!/^#/ && NR > 2 { n++; if ($5 || $6 || $9 < 1) { print; bad = 1 } } END { exit bad || n < 60 }' "$TMP/registers.tsv"; }
ok "no kernel has a stack or spills, each fits its card" frugal
done_testing
