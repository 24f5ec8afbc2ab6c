# The code itself: layers, warnings under both compilers, help of every tool.
. "$(dirname "$0")/lib.sh"
cd "$TOP" || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that runs this test
headers() { ls "$1" | grep '\.h$'; }
no_includes() { # files… -- of these headers
	local pattern
	pattern=$(tr '\n' '|' <<<"$2" | sed 's/|$//; s/\./\\./g')
	! grep -nE "#include \"($pattern)\"" $1
}
ok "common/ includes nothing of kernels/ or tools/" no_includes "common/*.[ch]" "$(headers kernels)"
ok "kernels/ opens no data file (no shard, no source, no bpe)" no_includes "kernels/*.[ch]" $'source.h\nbpe.h'
ok "no includes with paths" eval '! grep -nE "#include \"[^\"]*/" common/*.[ch] kernels/*.[ch] tools/*.c'
own_header() {
	local f h bad=0
	for f in common/*.c kernels/*.c; do
		h=${f%.c}.h
		[ -e "$h" ] && [ "$(grep -m1 '#include' "$f")" != "#include \"$(basename "$h")\"" ] && { echo "$f"; bad=1; }
	done
	return $bad
}
ok "each .c includes its own header first" own_header
alone() {
	local h
	for h in common/*.h kernels/*.h; do
		case $h in kernels/cu*.h) continue ;; esac # of CUDA: t-cuda.sh, where its headers are
		gcc -std=c11 -D_GNU_SOURCE -DXXH_INLINE_ALL -Wall -Wextra -Werror -Icommon -Ikernels -fsyntax-only -x c "$h" 2>&1 |
			grep -v 'pragma once' | grep -E 'error|warning' && return 1
	done
	return 0
}
ok "each header compiles alone" alone
ok "clang builds everything without a warning" make -s --no-print-directory -j2 tools CC=clang BIN="$TMP/clang" OBJ="$TMP/obj" WERROR=-Werror
ok "... and its programs do not pass for gcc's" eval '! make -q --no-print-directory tools BIN="$TMP/clang"'
mkdir "$TMP/path" # a machine without dpkg and apt
for c in bash env grep expr gcc python3; do ln -s "$(type -P $c)" "$TMP/path/$c"; done
ok "make deps elsewhere: nothing when all is there" env PATH="$TMP/path" bash tests/deps gcc libc6-dev libzstd-dev libdnnl-dev python3
fails 1 "... or what to install" "install what Debian calls: libnope-dev" env PATH="$TMP/path" bash tests/deps gcc libnope-dev
for t in tokenize gptrain mlpdump shuffle resample-pick saetrain topk features htmlgen shardls; do
	ok "$t --help shows an example" eval "'$BIN/$t' --help | grep -q '^e.g.:'"
	ok "$t --version" eval "'$BIN/$t' --version | grep -q featuremill"
	fails 2 "$t: an unknown option is misuse" "unknown option" "$BIN/$t" --no-such-option
done
done_testing
