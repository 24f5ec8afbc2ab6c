# Devices in plugins: one binary that starts anywhere, says in one line why there is no card, and goes on without.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
for t in tokenize gptrain mlpdump shuffle resample-pick saetrain topk features htmlgen shardls; do
	ok "$t links no CUDA library" eval "! ldd '$BIN/$t' | grep -E 'libcu|libnv|libnccl'"
	case $t in gptrain | mlpdump | saetrain | topk | features)
		ok "... and lists the devices" eval "'$BIN/$t' --help | grep -q 'auto, ref, cpu or cuda'" ;;
	esac
done

# A copy of gptrain with a lib/ of its own: X/bin/gptrain opens X/lib/cuda.so.
mkdir -p x/bin x/lib driver none
cp "$BIN/gptrain" x/bin/
"$BIN/tokenize" -q --field text --val 0.2 --val-out val.zst -o train.zst "$TOP/tests/fixtures/tiny.jsonl"
train() { # device words… -- a little training, from its start
	rm -f g.*
	x/bin/gptrain -j1 --n-layer 1 --n-head 2 --n-embd 8 --block 8 --batch 2 --accum 1 --leaves 1 --iters 1 --warmup 1 \
		--eval-every 1 --eval-contexts 1 --val val.zst -o g.safetensors --device "$@" train.zst
}
plugin() { # C text of the plugin -- becomes x/lib/cuda.so
	rm -f x/lib/cuda.so
	cat >plugin.c
	gcc -std=c11 -Wall -Werror -shared -fPIC -I"$TOP/kernels" -o x/lib/cuda.so plugin.c "$@"
}
HEAD='#include "plugin.h"
static const char *open_it(const struct plugin_host *h, const char *p, struct backend *b, struct backend *e)'
fails 1 "no plugin" "device cuda: there is no '$TMP/x/lib/cuda.so'" train cuda
plugin <<<'int nothing;'
fails 1 "a library that is no plugin" "cuda.so' is no plugin of featuremill" train cuda
echo 'no library' >x/lib/cuda.so
fails 1 "a file that is no library" "device cuda: $TMP/x/lib/cuda.so: " train cuda
gcc -shared -fPIC -o libcublas.so.999 -xc - <<<'int cublas(void) { return 1; }'
plugin "$PWD/libcublas.so.999" -Wl,--no-as-needed <<<'int cublas(void); int use(void) { return cublas(); }'
mv libcublas.so.999 gone
fails 1 "cuBLAS is missing" "libcublas.so.999: cannot open shared object file" train cuda
plugin <<<"$HEAD { return 0; }
const struct plugin featuremill_plugin = { PLUGIN_ABI + 1, sizeof(struct backend), open_it };"
fails 1 "another interface" "cuda.so' is of another version (interface" train cuda
plugin <<<"$HEAD { return 0; }
const struct plugin featuremill_plugin = { PLUGIN_ABI, sizeof(struct backend) - 8, open_it };"
fails 1 "another table" "is of another version (interface" train cuda
cp x/lib/cuda.so other.so
plugin <<<"$HEAD { *b = *e = (struct backend){ .precision = p }; return 0; }
const struct plugin featuremill_plugin = { PLUGIN_ABI, sizeof(struct backend), open_it };"
fails 1 "an incomplete table: its first op" "device cuda lacks alloc" train cuda
plugin <<<"$HEAD { return \"no card of this kind\"; }
const struct plugin featuremill_plugin = { PLUGIN_ABI, sizeof(struct backend), open_it };"
fails 1 "no card" "device cuda: no card of this kind" train cuda
fails 1 "tf32 on the processor" "device cpu does not compute in tf32" train cpu --precision tf32
fails 2 "no such device" "cudasim" train gpu

# The plugin as it is built, where no card is.
if [ -e "$BIN/../lib/cuda.so" ] && ! ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
	cp "$BIN/../lib/cuda.so" x/lib/
	fails 1 "the plugin without a card" "device cuda: " train cuda
	ok "... which exports one symbol" eval 'nm -D --defined-only x/lib/cuda.so | grep -c " [A-Z] " | grep -qx 1'
	ok "... and links the runtime into itself" eval "! ldd x/lib/cuda.so | grep -E 'libcudart|libcuda\.so'"
fi

# auto: the card where there is a driver and all the rest, else the processor, and why.
if ldconfig -p | grep -q 'libcuda\.so\.1'; then
	skip "auto falls back" "this machine has a driver"
else
	gcc -shared -fPIC -o driver/libcuda.so.1 -xc - <<<'int nothing;'
	falls_back() { # why command…
		local why=$1
		shift
		"$@" 2>err && grep -q "device cpu, precision [a-z0-9]*; no cuda: $why" err && [ "$(grep -c 'no cuda' err)" = 1 ]
	}
	rm -f x/lib/cuda.so
	ok "auto falls back: no driver" falls_back "no driver$" train auto
	cp g.safetensors want
	export LD_LIBRARY_PATH=$TMP/driver
	ok "... no plugin" falls_back "there is no '$TMP/x/lib/cuda.so'$" train auto
	same "... the same bytes" want g.safetensors
	cp other.so x/lib/cuda.so
	ok "... another version of it" falls_back ".* is of another version" train auto
	plugin <<<"$HEAD { return \"no card\\n of this kind\"; }
const struct plugin featuremill_plugin = { PLUGIN_ABI, sizeof(struct backend), open_it };"
	ok "... no card" falls_back "no card  of this kind$" train auto
	same "... the same bytes" want g.safetensors
	# ... and with all of it there is a card: the emulator under cuda's name
	SIM=$BIN/../lib${BIN##*/bin}/cudasim.so
	if [ -e "$SIM" ]; then
		cp "$SIM" x/lib/cuda.so
		ok "auto takes the card" eval 'train auto 2>err && grep -q "device cuda, precision bf16$" err'
		ok "... and the recipe says so" grep -q "^device auto cuda bf16$" g.safetensors.stamp
		cp g.safetensors card
		ok "... asked for by name: the same weights" eval 'train cuda && cmp <(tail -c 1000 card) <(tail -c 1000 g.safetensors)'
		LD_LIBRARY_PATH=
		ok "... without a driver the recipe is another" eval 'train auto && ! grep -q cuda g.safetensors.stamp'
	fi
	unset LD_LIBRARY_PATH
	ok "cpu says nothing of cuda" eval '! { train cpu 2>&1 | grep cuda; }'
fi
done_testing
