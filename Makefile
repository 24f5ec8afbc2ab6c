# featuremill: raw text -> GPT -> MLP activations -> sparse autoencoder -> feature pages.
# Knobs, tools, data graph, checks -- in this order.  `make help` lists what can be asked for.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-builtin-variables
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := help
.PHONY: FORCE
FORCE:

# ---- knobs ---------------------------------------------------------------------------------
# Every knob can be given on the command line; a preset is a row of defaults.
PRESET ?= demo
CORPUS ?=
MATCH ?= $(if $(CORPUS),,$(MATCH_$(PRESET)))
FIELD ?= text
THREADS ?= $(shell nproc)
MEMORY ?= 2G
TEXTS ?= data/texts.txt
DEVICE ?= auto
PRECISION ?= auto
LAUNCH ?=
OUT := out/$(PRESET)

PRESETS := tiny demo seed
COLUMN := $(or $(word 2,$(subst :, ,$(filter $(PRESET):%,tiny:1 demo:2 seed:3))),$(error PRESET is one \
	of $(PRESETS), not '$(PRESET)'))
knob = $(eval KNOBS += $1)$(eval default_$1 := $(word $(COLUMN),$2))$(eval $1 ?= $$(default_$1))$(eval help_$1 := $3)$(if \
	$(filter-out 1,$(words $($1))),$(error $1 takes one value, not '$($1)'))
#           knob               tiny demo seed          meaning
$(call knob,VAL,               0.05 0.02 0.0005,     share of documents held out for validation)
$(call knob,N_LAYER,           1 1 1,                GPT: layers)
$(call knob,N_HEAD,            2 4 4,                GPT: attention heads)
$(call knob,N_EMBD,            16 128 128,           GPT: width; the autoencoder reads 4 times this)
$(call knob,BLOCK,             32 256 1024,          GPT: context length)
$(call knob,VOCAB,             50304 50304 50304,    GPT: vocabulary and padded)
$(call knob,BATCH,             4 16 12,              GPT: contexts in a micro-batch)
$(call knob,ACCUM,             1 1 40,               GPT: micro-batches in an iteration)
$(call knob,GPT_LEAVES,        4 2 8,                GPT: parts an iteration is summed in; processes share them)
$(call knob,ITERS,             8 600 200000,         GPT: iterations)
$(call knob,GPT_LR,            2e-3 2e-3 6e-4,       GPT: highest learning rate)
$(call knob,GPT_MIN_LR,        2e-4 2e-4 6e-5,       GPT: lowest learning rate)
$(call knob,WARMUP,            2 60 2000,            GPT: warm-up iterations)
$(call knob,GPT_EVAL_EVERY,    4 150 2000,           GPT: iterations between evaluations)
$(call knob,GPT_EVAL_CONTEXTS, 4 400 2000,           GPT: validation contexts in an evaluation)
$(call knob,CONTEXTS,          96 16000 4000000,     activations: contexts)
$(call knob,SAMPLES,           16 100 200,           activations: tokens kept of each context)
$(call knob,SHARDS,            3 4 20,               activations: shards)
$(call knob,DTYPE,             bf16 bf16 f16,        activations: stored type)
$(call knob,WINDOW,            0 0 0,                shuffle within this many contexts; 0: all)
$(call knob,FROM_TOKENS,       0 0 0,                activations: 0 stored or 1 made where they are used)
$(call knob,PICK_ROWS,         64 16384 819200,      resampling: rows scored at each event)
$(call knob,RESAMPLE_EVERY,    8 150 25000,          resampling: steps between events)
$(call knob,RESAMPLE_EVENTS,   3 4 4,                resampling: events)
$(call knob,FEATURES,          128 4096 4096,        autoencoder: features)
$(call knob,SAE_BATCH,         32 2048 8192,         autoencoder: rows in a step)
$(call knob,SAE_LEAVES,        4 2 4,                autoencoder: parts a step is summed in; processes share them)
$(call knob,STEPS,             0 0 0,                autoencoder: steps; 0: one pass over the mix)
$(call knob,SAE_LR,            1e-3 5e-4 3e-4,       autoencoder: learning rate)
$(call knob,NORMALISE_EVERY,   10 100 1000,          autoencoder: steps between decoder normalisations)
$(call knob,L1,                3e-7 3e-7 3e-7,       autoencoder: L1 coefficient in the units of the reproduction)
$(call knob,EVAL_EVERY,        12 140 1000,          autoencoder: steps between evaluations)
$(call knob,EVAL_CONTEXTS,     4 400 2000,           autoencoder: validation contexts)
$(call knob,TOP_CONTEXTS,      32 2000 20000,        pages: contexts read)
$(call knob,RADIUS,            5 10 10,              pages: tokens shown on either side)
$(call knob,TOP_RADIUS,        12 32 32,             pages: the same of top activations)
$(call knob,TOP_K,             5 10 10,              pages: top activations of a feature)
$(call knob,SEED,              1337 1337 1337,       seed of every random choice)
# What is given on the command line, but neither a knob nor set anywhere below, is misspelt.
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v))
$(foreach v,$(filter-out $(KNOBS),$(GIVEN)),$(if $(shell grep -E '^$v *[:?]?=' $(firstword $(MAKEFILE_LIST))),,$(error there is \
	no knob $v: see make help)))

# ---- tools ---------------------------------------------------------------------------------
# SAN=address,undefined or SAN=thread builds a second set of tools beside the first.
CC := gcc
SAN ?=
comma := ,
BIN := out/bin$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
WERROR ?=
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
CPPFLAGS := -D_GNU_SOURCE -DXXH_INLINE_ALL -Icommon -Ikernels -I. -MMD -MP
CFLAGS := -std=c11 -g -O2 $(WARN) $(WERROR) $(SANFLAGS)
LDLIBS := -lzstd -lxxhash -larchive -ljansson -ldnnl -lgomp -lm -lpthread
MACHINE := $(shell uname -m)
AVX512 := -O3 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c
flags_for = $(if $(filter x86_64,$(MACHINE)),$(if $(filter %_avx2,$1),-O3 -mavx2 -mfma -mf16c)$(if \
	$(filter %_avx512,$1),$(AVX512))$(if $(filter %_avx512bf16,$1),$(AVX512) -mavx512bf16)$(if \
	$(filter %_amx,$1),$(AVX512) -mamx-tile -mamx-bf16)) $(if $(filter common/%,$1),-Wconversion)
OBJ := out/obj/$(firstword $(shell echo '$(CC) $(filter-out $(WERROR),$(CFLAGS)) $(CPPFLAGS) $(AVX512) $(value flags_for)' | md5sum | cut -c1-10))

# What a tool opens when it is asked for lies beside the programs: MPI, and devices built as they are (bin-X: lib-X).
PLUGINS := $(dir $(BIN))lib
DEVICES := $(PLUGINS)$(patsubst bin%,%,$(filter bin%,$(notdir $(BIN))))
MPICC ?= mpicc
# The backend of NVIDIA's cards is built where nvcc and cuBLAS are; that takes no card.
NVCC := $(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc))
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_LIB := $(CUDA_HOME)/lib64
CUDA_C := $(wildcard kernels/cuda*.c)
CUDA_CU := $(wildcard kernels/cuda*.cu)
CUBLAS := $(wildcard $(addprefix $(CUDA_LIB)/,libcublas.so libcublasLt.so libcudart_static.a))
CUDA_SO := $(if $(SAN),,$(if $(NVCC),$(if $(word 3,$(CUBLAS)),$(if $(wildcard kernels/cuda.c),$(DEVICES)/cuda.so),no-cublas)))
CUDA_OBJ := out/obj/cuda$(if $(WERROR),-checked)
CUDA_TARGETS := 80 86 89 90 100 120
# Spills, local memory and doubles are mistakes, but where sums are meant to be double.
ptxas_warns = -warn-spills,-warn-lmem-usage$(if $(filter cuda_sums,$(notdir $1)),,$(comma)-warn-double-usage)
nvcc_flags = -std=c++17 -O3 -Ikernels $(if $(WERROR),-Werror all-warnings) -Xptxas $(call ptxas_warns,$1)

TOOLS := tokenize gptrain mlpdump shuffle resample-pick saetrain topk features htmlgen shardls
COMMON := $(basename $(filter-out %/comm_mpi.c,$(sort $(wildcard common/*.c common/*.S))))
KERNELS := $(basename $(filter-out kernels/cuda%,$(sort $(wildcard kernels/*.c))))
LIB := $(OBJ)/libfeaturemill.a
tool_objects = $(patsubst %,$(OBJ)/%.o,$(basename $(wildcard tools/$1.c tools/$1_*.c tools/$1_*.S)))

.PHONY: tools
tools: $(TOOLS:%=$(BIN)/%) $(BIN)/parquet-text $(if $(shell command -v $(MPICC)),$(PLUGINS)/mpi.so) $(CUDA_SO)
$(LIB): $(patsubst %,$(OBJ)/%.o,$(COMMON) $(KERNELS))
	@rm -f $@; ar rcs $@ $^
$(OBJ)/%.o: %.c | $(filter deps,$(MAKECMDGOALS))
	$(call run,CC,$@,$(CC) $(CPPFLAGS) $(CFLAGS) $(call flags_for,$*) -c -o $@ $<)
$(OBJ)/%.o: %.S | $(filter deps,$(MAKECMDGOALS))
	$(call run,AS,$@,$(CC) $(CPPFLAGS) -c -o $@ $<)
# The vocabulary goes into the programs as it lies in memory.
$(OBJ)/common/vocab_data.o: $(OBJ)/vocab
$(OBJ)/common/vocab_data.o: private CPPFLAGS += -DVOCAB='"$(OBJ)/vocab"'
$(OBJ)/vocab: data/gpt2.tiktoken data/unicode_classes.tsv $(OBJ)/tools/vocab-make.o $(OBJ)/common/base.o
	$(call run,VOCAB,$@,$(CC) $(SANFLAGS) -o $(OBJ)/vocab-make $(filter %.o,$^) -lm -lpthread && $(OBJ)/vocab-make $(filter data/%,$^) >$@)
$(OBJ)/tools/htmlgen_assets.o: $(wildcard tools/htmlgen*.js tools/htmlgen*.css tools/htmlgen*.html)
# The programs are of these objects, not of another compiler's or other flags'.
$(BIN)/objects: $(if $(filter $(OBJ),$(file <$(BIN)/objects)),,FORCE)
	@mkdir -p $(@D); echo $(OBJ) >$@
.SECONDEXPANSION:
$(TOOLS:%=$(BIN)/%): $(BIN)/%: $$(call tool_objects,$$*) $(LIB) $(BIN)/objects
	$(call run,LD,$@,$(CC) $(SANFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS))
# What a tool opens when it is asked for lies beside the programs.
$(PLUGINS)/mpi.so: common/comm_mpi.c common/comm.h
	$(call run,MPICC,$@,$(MPICC) $(filter-out -MMD -MP,$(CPPFLAGS)) -std=c11 -g -O2 $(WARN) $(WERROR) -fPIC -shared -o $@ $<)
.PHONY: no-cublas
no-cublas:
	@echo 'there is nvcc, but no cuBLAS in $(CUDA_LIB): --device cuda is not built'
$(CUDA_OBJ)/%.o: kernels/%.cu
	$(call run,NVCC,$@,$(NVCC) $(call nvcc_flags,$*) $(foreach t,$(CUDA_TARGETS),-gencode arch=compute_$t$(comma)code=sm_$t) \
		-gencode arch=compute_80$(comma)code=compute_80 -t 2 -Xcompiler -fPIC$(comma)-fvisibility=hidden -MMD -MP -c -o $@ $<)
$(OBJ)/pic/%.o: %.c
	$(call run,CC,$@,$(CC) $(CPPFLAGS) -isystem $(CUDA_HOME)/include $(CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<)
$(DEVICES)/cuda.so: $(CUDA_C:%.c=$(OBJ)/pic/%.o) $(CUDA_CU:kernels/%.cu=$(CUDA_OBJ)/%.o) $(BIN)/objects
	$(call run,LD,$@,$(CC) -shared -o $@ $(filter %.o,$^) -Wl$(comma)-z$(comma)defs$(comma)--exclude-libs$(comma)ALL -L$(CUDA_LIB) \
		-Wl$(comma)-rpath$(comma)$(CUDA_LIB) -lcublas -lcublasLt -lcudart_static -lstdc++ -ldl -lrt -lpthread -lm)
$(BIN)/parquet-text: tools/parquet-text
	$(call run,CP,$@,cp $< $@)
-include $(wildcard $(OBJ)/*/*.d $(OBJ)/pic/kernels/*.d $(CUDA_OBJ)/*.d)
# $(call run,WORD,OUTPUT,COMMAND): quiet by default; V=1 shows the commands.
V ?=
run = $(if $(V),,@printf '%-5s %s\n' $1 $2;) mkdir -p $(dir $2) && $3

# ---- data graph ----------------------------------------------------------------------------
# A stage is stale for make when an input, its tool or its knobs are newer; the tool then compares
# what really shaped the output and, if that is unchanged, only touches it.
numbers = $(or $(shell { seq -f '%03g' 0 $$(($1 - 1)); } 2>/dev/null),$(error SHARDS must be a number from 1 up, not '$1'))
slug = $(if $(filter $($1),$(default_$1)),,-$(subst _,-,$(shell echo $1 | tr A-Z a-z))-$($1))
empty :=
space := $(empty) $(empty)
SAE_KNOBS := FEATURES SAE_BATCH SAE_LEAVES STEPS SAE_LR NORMALISE_EVERY RESAMPLE_EVERY RESAMPLE_EVENTS FROM_TOKENS
SAE := $(OUT)/sae/l1-$(L1)$(subst $(space),,$(foreach k,$(SAE_KNOBS),$(call slug,$k)))
TOKENS := $(OUT)/tokens/train.zst $(OUT)/tokens/val.zst
GPT := $(OUT)/gpt.safetensors
ACTS := $(patsubst %,$(OUT)/acts/%.zst,$(call numbers,$(SHARDS)))
MIX := $(ACTS:$(OUT)/acts/%=$(OUT)/mix/%)
# FROM_TOKENS=1: acts and mix are not needed; the rows picked are made once, all others where they are used.
MADE := $(filter-out 0,$(if $(filter 0 1,$(FROM_TOKENS)),$(FROM_TOKENS),$(error FROM_TOKENS is 0 or 1, not '$(FROM_TOKENS)')))
ROWS := $(if $(MADE),$(OUT)/tokens/train.zst,$(MIX))
PICK := $(OUT)/pick$(if $(MADE),-made).zst
SITE := $(SAE)/html/index.html
NEURONPEDIA := $(SAE)/neuronpedia/skipped_indexes.json
STAGE = -j $(THREADS) -s $(SEED)
NET = --device $(DEVICE) --precision $(PRECISION)
# Tools leave whole outputs only, so make deletes none when one fails, is interrupted or finds another at work.
.PRECIOUS: $(TOKENS) $(GPT) $(ACTS) $(MIX) $(PICK) $(SAE)/sae.safetensors $(SAE)/top/index.json $(SAE)/texts.json $(SITE) $(NEURONPEDIA)
# Under make -jN the tools of N shards (-j: of all) share threads and memory.
jobs = $(patsubst -j%,%,$(or $(patsubst -j,-j1000,$(filter -j%,$(MAKEFLAGS))),-j1))
SHARE = $(words $(wordlist 1,$(jobs),$(MIX)))
PART = -j $$((($(THREADS) + $(SHARE) - 1) / $(SHARE))) -m $(if $(filter 1,$(SHARE)),$(MEMORY),$$(($$(numfmt \
	--from=iec $(MEMORY)) / $(SHARE))))
given = $(if $(filter-out 0,$($2)),$1 $($2))

.PHONY: tokens gpt acts mix pick sae top texts html neuronpedia demo corpus sweep
tokens: $(TOKENS)
gpt: $(GPT)
acts: $(ACTS)
mix: $(MIX)
pick: $(PICK)
sae: $(SAE)/sae.safetensors
top: $(SAE)/top/index.json
texts: $(SAE)/texts.json
html: $(SITE)
neuronpedia: $(NEURONPEDIA)
demo: $(SITE)
	@$(BIN)/htmlgen --summary $(SAE)/sae.jsonl --gpt-metrics $(GPT:.safetensors=.jsonl)
	@echo "site: $(abspath $<)"

# The demo's corpus: documentation packages of the distribution, read as they are.  The globs leave out
# second copies, translations and tables: 55 MB of English.
DEMO_PACKAGES := anarchism vim-runtime perl-doc python3.11-doc linux-doc-6.1
MATCH_demo := */markdown/*.md.gz */vim*/doc/[!v]*.txt */pod/perl[!tu]*.pod */python3*/_sources/*.rst.txt \
	*/Documentation/[!t]*.rst.gz
DEMO_DEBS := $(DEMO_PACKAGES:%=out/corpus/%.deb)
TEXT_tiny := tests/fixtures/tiny.jsonl
TEXT_demo := $(DEMO_DEBS)
TEXT_seed := out/corpus/openwebtext
# CORPUS is words of the shell: globs and quotes do what they do there, folders are read whole.
TEXT := $(if $(CORPUS),$(shell LC_ALL=C; ls -dU --quoting-style=shell-escape -- $(CORPUS) 2>&1),$(TEXT_$(PRESET)))
$(if $(CORPUS),$(if $(filter-out 0,$(.SHELLSTATUS)),$(error CORPUS: $(TEXT); a name with spaces needs quotes \
	within the quotes)))
out/corpus/openwebtext:
	$(error PRESET=seed reads OpenWebText: fetch the 80 parquet files of Skylion007/openwebtext (24 GB) from \
		the Hugging Face hub, then say CORPUS='path/train-*.parquet')
corpus: $(DEMO_DEBS)
$(DEMO_DEBS): out/corpus/%.deb: | $$(filter deps,$(MAKECMDGOALS))
	@command -v apt-get >/dev/null || { echo "the demo reads packages of Debian, which apt-get fetches; here say CORPUS='files…'" >&2; exit 1; }
	@rm -rf $@.d && mkdir -p $@.d && cd $@.d && $(call quietly,apt-get download $* || { apt-get update && apt-get download $*; })
	@mv $@.d/*.deb $@ && rmdir $@.d
quietly = ($1) >out.log 2>&1 || { cat out.log >&2; exit 1; }; rm -f out.log

# Knob stamps: a stage's knobs as text, written again only when they read otherwise.
knobs_tokens := VAL FIELD MATCH TEXT
knobs_gpt := N_LAYER N_HEAD N_EMBD BLOCK VOCAB BATCH ACCUM GPT_LEAVES ITERS GPT_LR GPT_MIN_LR WARMUP \
	GPT_EVAL_EVERY GPT_EVAL_CONTEXTS SEED DEVICE PRECISION
knobs_acts := CONTEXTS SAMPLES SHARDS DTYPE WINDOW SEED DEVICE PRECISION
knobs_pick := PICK_ROWS RESAMPLE_EVENTS SEED
knobs_made := CONTEXTS SAMPLES WINDOW DTYPE DEVICE PRECISION
knobs_pick-made := $(knobs_pick) $(knobs_made)
knobs_sae := $(SAE_KNOBS) L1 EVAL_EVERY EVAL_CONTEXTS SEED DEVICE PRECISION $(if $(MADE),$(knobs_made))
knobs_neuronpedia := NP_MODEL NP_SET
knobs_top := TOP_CONTEXTS RADIUS TOP_RADIUS TOP_K CONTEXTS SEED DEVICE PRECISION
knobs_texts := TEXTS DEVICE PRECISION
knob_text = $(foreach k,$(knobs_$1),$k=$($k))
changed = $(shell find -L $(TEXT) -newer $(OUT)/tokens/train.zst -print -quit 2>/dev/null)
stale = $(if $(subst [$(strip $(file <$2))],,[$(strip $(call knob_text,$1))]),FORCE)
keep = mkdir -p $(@D); echo '$(subst ','\'',$(call knob_text,$1))' >$@
$(foreach s,tokens gpt acts pick pick-made top texts neuronpedia,$(OUT)/knobs/$s): $(OUT)/knobs/%: $$(call stale,$$*,$$@)
	@$(call keep,$*)
$(SAE)/knobs: $$(call stale,sae,$$@)
	@$(call keep,sae)

# An output without its stamp is that of a run killed just before its end.
unstamped = $(if $(wildcard $1.stamp),,FORCE)

$(TOKENS) &: $(if $(CORPUS),$(if $(changed),FORCE),$(TEXT)) $(BIN)/tokenize $(OUT)/knobs/tokens $(call unstamped,$(OUT)/tokens/train.zst)
	$(call run,TOK,$(OUT)/tokens/,$(BIN)/tokenize -j $(THREADS) --field '$(FIELD)' $(foreach m,$(MATCH),--match '$m') \
		--val $(VAL) --val-out $(OUT)/tokens/val.zst -o $(OUT)/tokens/train.zst $(TEXT))

$(GPT): $(TOKENS) $(BIN)/gptrain $(OUT)/knobs/gpt $(call unstamped,$(GPT))
	$(call run,GPT,$@,$(LAUNCH) $(BIN)/gptrain $(STAGE) $(NET) --n-layer $(N_LAYER) --n-head $(N_HEAD) --n-embd $(N_EMBD) --block $(BLOCK) \
		--vocab $(VOCAB) --batch $(BATCH) --accum $(ACCUM) --leaves $(GPT_LEAVES) --iters $(ITERS) --lr $(GPT_LR) --min-lr $(GPT_MIN_LR) \
		--warmup $(WARMUP) --eval-every $(GPT_EVAL_EVERY) --eval-contexts $(GPT_EVAL_CONTEXTS) \
		--val $(OUT)/tokens/val.zst -o $@ $<)

$(ACTS) &: $(OUT)/tokens/train.zst $(GPT) $(BIN)/mlpdump $(OUT)/knobs/acts $(call unstamped,$(OUT)/acts)
	$(call run,ACTS,$(OUT)/acts,$(BIN)/mlpdump $(STAGE) $(NET) --gpt $(GPT) --contexts $(CONTEXTS) --samples $(SAMPLES) \
		--bins $(SHARDS) --window $(WINDOW) --dtype $(DTYPE) -o $(OUT)/acts/ $<)
	@rm -f $(filter-out $(MIX) $(MIX:=.stamp),$(wildcard $(OUT)/mix/*.zst $(OUT)/mix/*.zst.stamp)) # of more shards

$(MIX): $(OUT)/mix/%.zst: $(OUT)/acts/%.zst $(BIN)/shuffle $$(call unstamped,$$@)
	$(call run,MIX,$@,$(BIN)/shuffle $(PART) -o $@ $<)

FROM = $(if $(MADE),-m $(MEMORY) --contexts $(CONTEXTS) --samples $(SAMPLES) --window $(WINDOW) --dtype $(DTYPE) --from-tokens)
$(PICK): $(ROWS) $(if $(MADE),$(GPT)) $(BIN)/resample-pick $(OUT)/knobs/$(basename $(notdir $(PICK))) $(call unstamped,$(PICK))
	$(call run,PICK,$@,$(BIN)/resample-pick $(STAGE) $(if $(MADE),$(NET) --gpt $(GPT) $(FROM),-m $(MEMORY)) -n $(PICK_ROWS) \
		--events $(RESAMPLE_EVENTS) -o $@ $(ROWS))

$(SAE)/sae.safetensors: $(ROWS) $(PICK) $(GPT) $(OUT)/tokens/val.zst $(BIN)/saetrain $(SAE)/knobs \
		$(call unstamped,$(SAE)/sae.safetensors)
	$(call run,SAE,$@,$(LAUNCH) $(BIN)/saetrain $(STAGE) $(NET) --gpt $(GPT) --val $(OUT)/tokens/val.zst --pick $(PICK) \
		--l1 $(L1) --features $(FEATURES) --batch $(SAE_BATCH) --leaves $(SAE_LEAVES) $(call given,--steps,STEPS) --lr $(SAE_LR) \
		--normalise-every $(NORMALISE_EVERY) --resample-every $(RESAMPLE_EVERY) --resample-events $(RESAMPLE_EVENTS) \
		--eval-every $(EVAL_EVERY) --eval-contexts $(EVAL_CONTEXTS) $(FROM) -o $@ $(ROWS))

$(SAE)/top/index.json: $(OUT)/tokens/train.zst $(GPT) $(SAE)/sae.safetensors $(BIN)/topk $(OUT)/knobs/top \
		$(call unstamped,$(SAE)/top)
	$(call run,TOP,$(@D),$(BIN)/topk $(STAGE) $(NET) -m $(MEMORY) --gpt $(GPT) --sae $(SAE)/sae.safetensors --contexts $(TOP_CONTEXTS) \
		--skip $(CONTEXTS) --k $(TOP_K) --radius $(RADIUS) --top-radius $(TOP_RADIUS) -o $(@D) $<)

$(SAE)/texts.json: $(TEXTS) $(GPT) $(SAE)/sae.safetensors $(BIN)/features $(OUT)/knobs/texts $(call unstamped,$(SAE)/texts.json)
	$(call run,TEXTS,$@,$(BIN)/features -j $(THREADS) $(NET) --gpt $(GPT) --sae $(SAE)/sae.safetensors --json --texts $< -o $@)

$(SITE): $(SAE)/top/index.json $(SAE)/texts.json $(SAE)/sae.safetensors $(GPT) $(BIN)/htmlgen $(call unstamped,$(SAE)/html)
	$(call run,HTML,$(@D),$(BIN)/htmlgen -j $(THREADS) --metrics $(SAE)/sae.jsonl --gpt-metrics $(OUT)/gpt.jsonl \
		--texts $(SAE)/texts.json -o $(@D) $(<D))

# The same data for Neuronpedia and what else reads SAEDashboard's files
NP_MODEL ?= featuremill
NP_SET ?=
$(NEURONPEDIA): $(SAE)/top/index.json $(BIN)/htmlgen $(OUT)/knobs/neuronpedia $(call unstamped,$(SAE)/neuronpedia)
	$(call run,NP,$(@D),$(BIN)/htmlgen -j $(THREADS) --np-model '$(NP_MODEL)' --np-set '$(NP_SET)' --neuronpedia $(@D) $(<D))

# L1S: values of L1, one autoencoder each; ends in a table and a plot of L0 against loss recovered.
L1S ?= 1e-7 3e-7 1e-6
sweep: $(BIN)/htmlgen
	@for l1 in $(L1S); do $(MAKE) --no-print-directory sae L1=$$l1; done
	@tools/sweep $(OUT)/sweep $(foreach l,$(L1S),$l=$(OUT)/sae/l1-$l$(SAE:$(OUT)/sae/l1-$(L1)%=%)/sae.jsonl)

# ---- what is needed ------------------------------------------------------------------------
BUILD_DEPS := gcc libc6-dev libzstd-dev libxxhash-dev libarchive-dev libjansson-dev libdnnl-dev
CHECK_DEPS := perl zstd clang g++ python3 python3-numpy chromium openmpi-bin libopenmpi-dev
PARQUET_DEPS = $(if $(CORPUS),$(if $(shell find -L $(TEXT) -name '*.parquet' -print -quit),python3-venv))
# peers: with OpenBLAS PyTorch's matrix products are a dozen times faster than with Debian's plain BLAS
BENCH_DEPS := python3-torch libopenblas0-openmp python3-numpy python3-venv zstd
NEEDED = $(BUILD_DEPS) $(if $(filter check%,$(MAKECMDGOALS)),$(CHECK_DEPS)) $(PARQUET_DEPS) $(if \
	$(filter bench,$(MAKECMDGOALS)),$(BENCH_DEPS))
.PHONY: deps help clean
deps:
	@tests/deps $(NEEDED)
	@$(if $(filter check%,$(MAKECMDGOALS)),$(if $(NVCC),,echo 'no nvcc: the CUDA backend is built and checked with CUDA 13.0 or later'))
	@$(if $(filter bench,$(MAKECMDGOALS)),tests/peers/venv out/venv-bench)
	@$(if $(PARQUET_DEPS),out/venv/bin/python3 -c 'import pyarrow' 2>&- || { python3 -m venv out/venv && out/venv/bin/pip install -q pyarrow; })

define HELP
make deps demo           text to feature pages on this machine, in minutes
make deps check          all tests
make check-cuda          the CUDA path without a card; check-cuda-long also deletes each barrier in turn
make check-gpu           on a real card: tests, compute-sanitizer, times against floors, in ten minutes
make STAGE               up to one of: tokens gpt acts mix pick sae top texts html
make neuronpedia         the pages' data for other viewers; NP_MODEL= NP_SET= their names there
make sae L1=1e-6         one knob changed: what follows from it is made again
make sae FROM_TOKENS=1 WINDOW=2000   no stored activations: made in windows of contexts
make sweep L1S="…"       several L1: table and plot of L0 against loss recovered
make PRESET=seed html CORPUS="…"   the published run ($(PRESETS))
make CORPUS="files…"     your own text, files or folders; FIELD= the JSON key, MATCH= globs on archive members
make html TEXTS=FILE     your own sample texts in the pages, a line of % between one and the next
make gpt LAUNCH="mpirun -q -n 4"   training shared by processes, THREADS=N each; the same bytes
make clean               programs and PRESET=tiny; all of out/ may go: it is made again

knobs of PRESET=$(PRESET):
endef
help:
	$(info $(HELP))
	@$(foreach k,$(KNOBS),printf '  %-18s %-9s %s\n' '$k' '$($k)' '$(help_$k)';)
	@echo; echo 'THREADS=$(THREADS) MEMORY=$(MEMORY) DEVICE=$(DEVICE) PRECISION=$(PRECISION) V=1 (show commands)'
	@echo 'OUT=$(OUT) (where the outputs lie) CC=$(CC)'

clean:
	rm -rf out/obj out/bin out/bin-* out/lib out/lib-* out/cuda out/tiny

# ---- checks --------------------------------------------------------------------------------
# u-*.c test modules, ops.c the backends; golden*.c replay reference numbers; t-*.sh run programs.
TESTS := $(patsubst tests/%.c,$(BIN)/tests/%,$(sort $(wildcard tests/u-*.c tests/ops.c tests/golden-tokens.c tests/acts.c tests/kill-at.c tests/steps.c tests/card.c))) $(BIN)/tests/golden
UNITS := $(filter $(BIN)/tests/u-%,$(TESTS))
.PHONY: check check-plain check-address check-thread tests lint
tests: tools $(TESTS) $$(CUDASIM)
$(BIN)/tests/%: $(OBJ)/tests/%.o $(LIB) $(BIN)/objects
	$(call run,LD,$@,$(CC) $(SANFLAGS) -o $@ $(filter %.o %.a,$^) $(LDLIBS))
$(BIN)/tests/golden: $(patsubst %.c,$(OBJ)/%.o,$(filter-out tests/golden-tokens.c,$(wildcard tests/golden-*.c))) $(LIB) $(BIN)/objects
	$(call run,LD,$@,$(CC) $(SANFLAGS) -o $@ $(filter %.o %.a,$^) $(LDLIBS))
# The nets and ref once more in double, for central differences.
$(BIN)/tests/u-grad: tests/u-grad.c kernels/ref.c kernels/ref_sae.c kernels/gpt.c kernels/sae.c $(wildcard kernels/*.h common/*.h) tests/check.h $(LIB) $(BIN)/objects
	$(call run,LD,$@,$(CC) $(CPPFLAGS) $(CFLAGS) -Dreal=double -DREAL_IS_DOUBLE -o $@ $(filter %.c,$^) $(LIB) $(LDLIBS))

# of the build and of make itself: once is enough
PLAIN := $(addprefix tests/,t-build.sh t-make.sh t-kill.sh $(notdir $(wildcard tests/t-cuda*.sh)))
PROVE = prove -j2 --timer --exec tests/run
check: | $(filter deps,$(MAKECMDGOALS))
	@$(MAKE) --no-print-directory -j$(THREADS) check-plain WERROR=-Werror
	@$(MAKE) --no-print-directory -j$(THREADS) check-address WERROR=-Werror SAN=address,undefined
	@$(MAKE) --no-print-directory -j$(THREADS) check-thread WERROR=-Werror SAN=thread
check-plain: tests
	@BIN=$(BIN) $(PROVE) $(UNITS) $(BIN)/tests/ops $(wildcard tests/t-*.sh)
check-address: tests
	@BIN=$(BIN) $(PROVE) $(UNITS) $(BIN)/tests/ops $(filter-out $(PLAIN),$(wildcard tests/t-*.sh))
check-thread: tests
	@BIN=$(BIN) OMP_NUM_THREADS=1 $(PROVE) $(addprefix $(BIN)/tests/,u-pool u-shard) tests/t-pipe.sh

# ---- the CUDA path without a card ----------------------------------------------------------
# libcusim stands in for libcudart and libcublas: plain, for kernels built with ASan and UBSan, and for TSan,
# which needs clang's (with gcc's a fiber costs 0.5 ms and 0.85 MB).  See tests/cuda/emulator.h.
CUSIM_BUILDS := plain address thread
CUSIM_SAN_address := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CUSIM_SAN_thread := -fsanitize=thread
CUSIM_DEFINE_address := -DCUSIM_ASAN
CUSIM_DEFINE_thread := -DCUSIM_TSAN
CUSIM_CC_plain := gcc
CUSIM_CC_address := gcc
CUSIM_CC_thread := clang
# --device cudasim of the tools built in the same way; gcc's tools have another TSan, so clang's lie in out/bin-tsan
CUSIM_SO_plain := out/lib/cudasim.so
CUSIM_SO_address := out/lib-address/cudasim.so
CUSIM_SO_thread := out/lib-tsan/cudasim.so
# What the programs of this build open as --device cudasim
CUDASIM := $(if $(NVCC),$(addprefix $(DEVICES)/,$(if $(filter $(DEVICES)/cudasim.so,$(CUSIM_SO_plain) $(CUSIM_SO_address)),cudasim.so libnccl-cudasim.so)))
cusim_cxx = $(if $(filter thread,$1),clang++,g++)
CUSIM_FLAGS = -std=c++17 -g -fPIC -Wall -Wextra -Wshadow $(WERROR) -MMD -MP -Itests/cuda -Ikernels -isystem $(CUDA_HOME)/include
CUSIM_OBJ := out/obj/cusim
cusim_objects = $(patsubst tests/cuda/%.cpp,$(CUSIM_OBJ)/$1/%.o,$(wildcard tests/cuda/cusim_*.cpp tests/cuda/ptx_*.cpp))
define cusim_build
# The emulator itself is never instrumented, the kernels are.
$(CUSIM_OBJ)/$1/%.o: tests/cuda/%.cpp
	$$(call run,CXX,$$@,$(call cusim_cxx,$1) $$(CUSIM_FLAGS) -O3 $$(CUSIM_DEFINE_$1) -c -o $$@ $$<)
$(CUSIM_OBJ)/$1/%.o: tests/cuda/%.cu
	$$(call run,CXX,$$@,$(call cusim_cxx,$1) $$(CUSIM_FLAGS) $$(CUSIM_SAN_$1) -O1 -x c++ -c -o $$@ $$<)
$(CUSIM_OBJ)/$1/%.o: kernels/%.cu
	$$(call run,CXX,$$@,$(call cusim_cxx,$1) $$(CUSIM_FLAGS) $$(CUSIM_SAN_$1) -O1 -x c++ -c -o $$@ $$<)
$(CUSIM_OBJ)/$1/%.c.o: kernels/%.c
	$$(call run,CC,$$@,$(CUSIM_CC_$1) $$(CPPFLAGS) -isystem $$(CUDA_HOME)/include -std=c11 -g -O1 $(WARN) $$(WERROR) -fPIC $$(CUSIM_SAN_$1) \
		-DNCCL_LIBRARY='"libnccl-cudasim.so"' -c -o $$@ $$<)
$(CUSIM_SO_$1): $(CUDA_C:kernels/%=$(CUSIM_OBJ)/$1/%.o) $(CUDA_CU:kernels/%.cu=$(CUSIM_OBJ)/$1/%.o) out/lib/libcusim-$1.a
	$$(call run,LD,$$@,$(call cusim_cxx,$1) $$(CUSIM_SAN_$1) -shared -o $$@ $$^ -lm)
$(dir $(CUSIM_SO_$1))libnccl-cudasim.so: tests/cuda/nccl.cpp tests/cuda/emulator.h $(CUSIM_SO_$1)
	$$(call run,CXX,$$@,$(call cusim_cxx,$1) $$(filter-out -MMD -MP,$$(CUSIM_FLAGS)) -O2 -shared -Wl$$(comma)-rpath$$(comma)'$$$$ORIGIN' \
		-o $$@ $$< -L$$(@D) -l:cudasim.so)
$(CUSIM_OBJ)/$1/demo.c.o: tests/cuda/demo.c
	$$(call run,CC,$$@,$(CUSIM_CC_$1) -std=gnu11 -g -O1 $(WARN) $$(WERROR) -MMD -MP -isystem $$(CUDA_HOME)/include $$(CUSIM_SAN_$1) -c -o $$@ $$<)
out/cuda/demo-$1: $(CUSIM_OBJ)/$1/demo.c.o $(CUSIM_OBJ)/$1/demo.o $(CUSIM_OBJ)/$1/bugs.o out/lib/libcusim-$1.a
	$$(call run,LD,$$@,$(call cusim_cxx,$1) $$(CUSIM_SAN_$1) -rdynamic -o $$@ $$^ -lm)
out/lib/libcusim-$1.a: $(call cusim_objects,$1)
	$$(call run,AR,$$@,rm -f $$@ && ar rcs $$@ $$^)
endef
$(foreach b,$(CUSIM_BUILDS),$(eval $(call cusim_build,$b)))
-include $(wildcard $(CUSIM_OBJ)/*/*.d)
.PHONY: cusim cudasim check-cuda check-cuda-long
# tests/ops in out/bin, bin-address and bin-tsan, with a cudasim.so each
out/cuda/nccl-bugs: tests/cuda/nccl-bugs.cpp tests/cuda/nccl.cpp out/lib/libcusim-plain.a
	$(call run,CXX,$@,$(call cusim_cxx,plain) $(filter-out -MMD -MP,$(CUSIM_FLAGS)) -O2 -o $@ $^ -lm)
cudasim: $(foreach b,$(CUSIM_BUILDS),$(CUSIM_SO_$b) $(dir $(CUSIM_SO_$b))libnccl-cudasim.so) out/bin/tests/ops
	@$(MAKE) --no-print-directory SAN=address,undefined out/bin-address/tests/ops
	@$(MAKE) --no-print-directory CC=clang SAN=thread BIN=out/bin-tsan out/bin-tsan/tests/ops
check-cuda:
	@NVCC='$(NVCC)' $(PROVE) $(wildcard tests/t-cuda*.sh)
# A file whose barriers are deleted, tests/ops' largest array and ops that notice
MUTANTS := cuda_attention.cu:60000:attention cuda_head.cu:500000:lmhead cuda_rows.cu:60000:embed:layernorm \
	cuda_sae.cu:300000:sae_grad:sae_active:sae_forward cu_sum.h:60000:sums:linear:adamw
check-cuda-long: check-cuda cusim cudasim out/bin/tests/steps
	@CUDA_HOME=$(CUDA_HOME) tests/cuda/mutate tests/cuda/demo.cu tests/cuda/demo.redundant tests/cuda/mutant
	@CUDA_HOME=$(CUDA_HOME) tests/cuda/mutate kernels/cuda.c tests/cuda/cuda.redundant tests/cuda/mutant-host
	@$(foreach m,$(MUTANTS),CUDA_HOME=$(CUDA_HOME) tests/cuda/mutate kernels/$(word 1,$(subst :, ,$m)) tests/cuda/cuda.redundant \
		tests/cuda/mutant-kernels $(wordlist 2,9,$(subst :, ,$m)) &&) true
	@EVERY=1 $(PROVE) tests/t-cuda-fail.sh
# What nvcc makes of the demo, for ptx_run.cpp.
PTX_TARGETS := 80 90
$(PTX_TARGETS:%=out/cuda/demo-%.ptx) out/cuda/bugs-80.ptx: tests/cuda/demo.h kernels/cu.h
$(PTX_TARGETS:%=out/cuda/demo-%.ptx): out/cuda/demo-%.ptx: tests/cuda/demo.cu
	$(call run,NVCC,$@,$(NVCC) -std=c++17 -O3 -Ikernels -arch=compute_$* -ptx -o $@ $<)
define kernel_ptx
out/cuda/%-$1.ptx: kernels/%.cu $(wildcard kernels/cu*.h)
	$$(call run,NVCC,$$@,$$(NVCC) -std=c++17 -O3 -Ikernels -arch=compute_$1 -ptx -o $$@ $$<)
endef
$(foreach t,$(PTX_TARGETS),$(eval $(call kernel_ptx,$t)))
KERNEL_PTX := $(foreach t,$(PTX_TARGETS),$(CUDA_CU:kernels/%.cu=out/cuda/%-$t.ptx))
# What they take of a multiprocessor; t-cuda-static.sh compares.
.PHONY: kernel-ptx registers
kernel-ptx: $(KERNEL_PTX)
registers: $(KERNEL_PTX) out/cuda/occupancy
	tests/cuda/registers $(CUDA_HOME)/bin/ptxas out/cuda/occupancy $(KERNEL_PTX) >out/cuda/registers.tsv
	@diff -U0 tests/cuda/registers.tsv out/cuda/registers.tsv || mv out/cuda/registers.tsv tests/cuda/registers.tsv
out/cuda/bugs-80.ptx: tests/cuda/bugs.cu
	$(call run,NVCC,$@,$(NVCC) -std=c++17 -O3 -Ikernels -arch=compute_80 -ptx -o $@ $<)
out/cuda/occupancy: tests/cuda/occupancy.cpp
	$(call run,CXX,$@,g++ -O1 -Wall -Wextra -isystem $(CUDA_HOME)/include -o $@ $<)
cusim: out/cuda/occupancy out/cuda/nccl-bugs out/cuda/bugs-80.ptx $(PTX_TARGETS:%=out/cuda/demo-%.ptx) $(CUSIM_BUILDS:%=out/lib/libcusim-%.a) $(CUSIM_BUILDS:%=out/cuda/demo-%)

# The first hour on a real card: the same tests there, then times and floors as a table for an issue.
.PHONY: check-gpu
check-gpu: tools $(addprefix $(BIN)/tests/,ops golden steps card) $(if $(NVCC),$(CUSIM_SO_plain))
	@BIN=$(BIN) tests/gpu

# ---- speed ---------------------------------------------------------------------------------
# Measured on the weights and data of a demo run: the demo's own when it is there, else a small one.
BENCH_RUN = $(if $(wildcard out/demo/sae/*/sae.safetensors),out/demo,out/bench-run)
WORKS ?=
.PHONY: bench
bench: tools $(BIN)/tests/bench $(BIN)/tests/bench-feed $(BIN)/tests/bench-bpe
	@[ -d $(BENCH_RUN)/sae ] || $(MAKE) --no-print-directory PRESET=demo OUT=$(BENCH_RUN) ITERS=150 CONTEXTS=3000 SHARDS=2 \
		PICK_ROWS=2048 EVAL_EVERY=1000 GPT_EVAL_EVERY=150 EVAL_CONTEXTS=40 GPT_EVAL_CONTEXTS=40 sae
	@BIN=$(BIN) DEMO=$(BENCH_RUN) tests/bench $(WORKS)
