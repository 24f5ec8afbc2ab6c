# needs.sh -- sourced first by a test of the CUDA path: one SKIP line and the end where it cannot be built.
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
NVCC=${NVCC-$(ls /usr/local/cuda/bin/nvcc 2>/dev/null || command -v nvcc)}
skip_all() { echo "1..0 # SKIP check-cuda needs $1"; exit 0; }
[ -n "$NVCC" ] && [ -e "$(dirname "$(realpath "$NVCC")")/../include/cuda_runtime_api.h" ] ||
	skip_all "nvcc and the headers of CUDA 13.0 or later"
[ "$(uname -m)" = x86_64 ] || skip_all "an x86-64 processor: the emulator switches its stacks"
command -v g++ >/dev/null && command -v clang++ >/dev/null || skip_all "g++ and clang++"
build() { # make's words; several tests may want the same at once
	mkdir -p "$TOP/out" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL flock "$TOP/out/cuda.lock" make -s --no-print-directory -C "$TOP" "$@"
}
