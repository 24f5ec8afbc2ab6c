# Every stage killed before one of its changes of the file system, and run again: the files of an uninterrupted run.
# So it is when the outputs of another run of the stage are there: whichever is asked for next is what comes.
# POINTS: kills of each stage, evenly spread (the last ones, where files take their names, always); 0: at each change.
. "$(dirname "$0")/lib.sh"
cd "$TMP" || exit 1
POINTS=${POINTS:-4}
kill_at="$BIN/tests/kill-at"
export ASAN_OPTIONS=detect_leaks=0 # which does not work while traced
ok "kill-at is there" test -x "$kill_at"
if [ "$("$kill_at" 0 true 2>/dev/null)" = "" ]; then
	skip "stages killed and run again" "processes cannot be traced here"
	done_testing
fi

# Stages are run in a folder of their own; what they read is in ../STAGE.  $other: what makes it another run.
other=
net="--device cpu -j2"
tokenize() { "$@" "$BIN/tokenize" -q -j2 --save-every 20K --val 0.1 --val-out val.zst $other -o train.zst "$TOP/tests/fixtures/tiny.jsonl"; }
gptrain() { "$@" "$BIN/gptrain" -q $net --n-head 2 --n-embd 16 --block 32 --batch 2 --accum 1 --iters 3 --eval-every 1 \
	--eval-contexts 2 --save-every 0 --val ../tokenize/val.zst $other -o gpt.safetensors ../tokenize/train.zst; }
mlpdump() { "$@" "$BIN/mlpdump" -q $net --gpt ../gptrain/gpt.safetensors --contexts 64 --samples 12 --bins 2 --batch 16 \
	--save-every 0 $other -o acts ../tokenize/train.zst; }
shuffle() { "$@" "$BIN/shuffle" -q -j2 --bins 3 --save-every 0 $other -o mix.zst ../mlpdump/acts/00?.zst; }
resample-pick() { "$@" "$BIN/resample-pick" -q -j2 -n 50 --events 3 --save-every 0 $other -o pick.zst ../shuffle/mix.zst; }
saetrain() { "$@" "$BIN/saetrain" -q $net --l1 3e-7 --gpt ../gptrain/gpt.safetensors --val ../tokenize/val.zst \
	--pick ../resample-pick/pick.zst --features 96 --batch 64 --steps 8 --eval-every 3 --eval-contexts 2 \
	--resample-every 3 --resample-events 2 --save-every 0 $other -o sae.safetensors ../shuffle/mix.zst; }
topk() { "$@" "$BIN/topk" -q $net --gpt ../gptrain/gpt.safetensors --sae ../saetrain/sae.safetensors --contexts 10 \
	--skip 64 --save-every 0 $other -o top ../tokenize/train.zst; }
features() { "$@" "$BIN/features" -q $net --gpt ../gptrain/gpt.safetensors --sae ../saetrain/sae.safetensors --json \
	--texts "$TOP/data/texts.txt" $other -o texts.json; }
htmlgen() { "$@" "$BIN/htmlgen" -q -j2 --texts ../features/texts.json --metrics ../saetrain/sae.jsonl --gpt-metrics ../gptrain/gpt.jsonl $other -o html ../topk/top; }

points() { # changes of an uninterrupted run: where to kill
	if [ "$POINTS" = 0 ]; then seq "$1"; else
		{ seq 1 $(($1 / POINTS + 1)) "$1"; ends "$1"; } | sort -nu
	fi
}
ends() { # changes: where the outputs are about to take their names and stamps
	local n=9 step=2
	[ "$POINTS" = 0 ] && n=14 step=1
	seq $(($1 > n ? $1 - n : 1)) $step "$1"
}
again() { # stage: after kills, in the folder of the kills; "" or what went wrong
	"$1" 2>.err || echo "fails: $(tail -1 .err)"
	rm -f .err
	diff -rq "../$1" . 2>&1 | head -2
}
killed_at() { # stage, numbers…: killed at each of these in turn, then run again
	local stage=$1 at trouble
	rm -rf work && mkdir work && cd work || return 1
	shift
	for at; do $stage "$kill_at" "$at" >/dev/null 2>&1; done
	trouble=$(again "$stage")
	cd ..
	[ -z "$trouble" ] && return
	echo "$stage killed at $*: $trouble"
	return 1
}
torture() { # stage
	local at changes bad=0
	changes=$(cat "$1.changes")
	for at in $(points "$changes"); do killed_at "$1" "$at" || bad=1; done
	killed_at "$1" $((changes / 2)) $((changes / 3)) $((changes / 4)) 3 || bad=1
	return $bad
}
files_of() { # stage-folder: "" or which of its files are not the same in work
	diff -rq "$1" work | grep -v '^Only in work' | head -2
}
between() { # stage, options of another run: that one is killed over the outputs of this one; then each is asked for
	local at changes bad=0 trouble
	mkdir -p other && cd other && other=$2 $1 "$kill_at" 0 >../changes || return 1
	cd ..
	changes=$(cat changes)
	diff -rq -x '*.stamp' "$1" other >/dev/null && echo "$1 $2 is no other run" && return 1
	for at in $(ends "$changes") $((changes / 2)); do
		rm -rf work && cp -r "$1" work && cd work || return 1
		other=$2 $1 "$kill_at" "$at" >/dev/null 2>&1
		trouble=$($1 2>/dev/null || echo "fails; ")$(cd .. && files_of "$1")
		trouble=$trouble$(other=$2 $1 2>/dev/null || echo "the other fails; ")$(cd .. && files_of other)
		cd ..
		[ -z "$trouble" ] && continue
		echo "$1 $2 killed at $at: $trouble"
		bad=1
	done
	rm -rf other
	return $bad
}
run() { # stage: uninterrupted, changes counted
	mkdir -p "$1" && cd "$1" && "$1" "$kill_at" 0 >"../$1.changes"
	local status=$?
	cd "$TMP"
	return $status
}

declare -A another=([tokenize]="-s 7" [gptrain]="-s 7" [mlpdump]="-s 7" [shuffle]="--level 19" [resample-pick]="-s 7"
	[saetrain]="-s 7" [topk]="-k 3" [features]="-k 3" [htmlgen]="--ultra-low 0.5")
for stage in tokenize gptrain mlpdump shuffle resample-pick saetrain topk features htmlgen; do
	ok "$stage: uninterrupted" run $stage || break
	ok "$stage: killed before any of $(wc -w <<<"$(points "$(cat $stage.changes)")") of $(cat $stage.changes) changes" torture $stage
	ok "$stage: another run killed over its outputs" between $stage "${another[$stage]}"
done
done_testing
