// The threads of a block, as fibers under one scheduler.
//
// A fiber runs threads back to back: one that never waits costs no switch.  Arrival at a barrier or
// warp operation suspends; the last arrival releases the others.  Divergence that CUDA leaves
// undefined is an error here, with the lines of both sides.
#include "emulator.h"

#include <utility>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cusim {

enum thread_state { NEW, RUNNING, READY, AT_BARRIER, IN_WARP, FINISHED };
struct thread {
	fiber *on;
	thread_state state;
	warp_kind kind;         // the warp operation it waits in:
	unsigned mask;          // its lanes
	int source;             // the lane a shuffle reads
	u64 value, result;      // given, received
	place from;
	bool fenced;
	void *tsan;             // TSan's notion of the thread
};
static thread threads[MAX_THREADS];
static int thread_count, started, live, at_barrier, in_warp, current = -1;
static int order[MAX_THREADS], ordered;
static int ready[MAX_THREADS], ready_count;
static int predicates, barrier_result;          // true predicates at this barrier; at the last
static const std::function<void()> *body;
const char *kernel_name;

// What TSan is told to order by.  Two of each, used in turn: a thread released from one barrier may
// reach the next before another has left the first.  Every block takes places of its own: at the last
// block's it would be ordered after that one, which hides what a missing fence does.
struct sync_places {
	u64 barrier[2], warp[MAX_THREADS / WARP][2];    // TSan tells addresses apart by 8 bytes
};
[[maybe_unused]] static sync_places block_places[1024], *sync_at = block_places;
[[maybe_unused]] static u64 grid_sync;
[[maybe_unused]] static int barrier_turn, warp_turn[MAX_THREADS / WARP];
[[maybe_unused]] static void *scheduler_tsan;

bool on_thread() { return current >= 0; }
unsigned lane() { return (unsigned)current % WARP; }
void trap(const char *what) { die("%s", what); }

void fence()
{
	if (on_thread())
		threads[current].fenced = true;
}

bool fenced() { return !on_thread() || threads[current].fenced; }

static void make_current(int i)
{
	const unsigned u = (unsigned)i;

	current = i;
	if (u < blockDim.x) {   // most blocks are one row: no division
		threadIdx = { u, 0, 0 };
		return;
	}
	threadIdx.x = u % blockDim.x;
	threadIdx.y = u / blockDim.x % blockDim.y;
	threadIdx.z = u / blockDim.x / blockDim.y;
}

static void leave_to_scheduler(fiber *f)
{
	TSAN(__tsan_switch_to_fiber(scheduler_tsan, NO_SYNC));
	fiber_leave(f);
}

static void suspend()
{
	const int me = current;

	leave_to_scheduler(threads[me].on);
	make_current(me);
	threads[me].state = RUNNING;
}

static void wake(int i)
{
	threads[i].state = READY;
	ready[ready_count++] = i;
}

static void shuffle_ready(int from)     // those made ready since there were `from`
{
	if (set().seed)
		for (int i = ready_count; i > from + 1; i--)
			std::swap(ready[i - 1], ready[from + (int)random_below((unsigned)(i - from))]);
}

static bool same_place(place a, place b)
{
	return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

// ---- barriers

static void release_barrier()
{
	const int ready_before = ready_count;
	const place *first = nullptr;

	for (int i = 0; i < thread_count; i++) {
		const thread &t = threads[i];
		if (t.state != AT_BARRIER)
			continue;
		if (first && !same_place(*first, t.from))
			die("threads of a block reached different barriers: %s:%d and %s:%d", first->file,
			    first->line, t.from.file, t.from.line);
		first = &t.from;
		if (i != current)
			wake(i);
	}
	barrier_result = predicates;
	predicates = at_barrier = 0;
	barrier_turn ^= 1;
	shuffle_ready(ready_before);
}

int barrier(int predicate, place from)
{
	thread &t = threads[current];
	[[maybe_unused]] const int turn = barrier_turn;

	t.state = AT_BARRIER;
	t.from = from;
	at_barrier++;
	predicates += predicate != 0;
	TSAN(__tsan_release(&sync_at->barrier[turn]));
	if (at_barrier == live) {
		release_barrier();
		t.state = RUNNING;
	} else {
		suspend();
	}
	TSAN(__tsan_acquire(&sync_at->barrier[turn]));
	return barrier_result;
}

// ---- warps

// The thread at lane l of the warp, if it exists and the mask names it.
static thread *lane_of(int warp, int l, unsigned mask)
{
	const int i = warp * WARP + l;

	return (mask >> l & 1) && i < thread_count ? &threads[i] : nullptr;
}

static thread *waiting_lane(int warp, int l, unsigned mask)
{
	thread *t = lane_of(warp, l, mask);

	return t && t->state == IN_WARP && t->mask == mask ? t : nullptr;
}

// Have all the mask's lanes that still live arrived?  Lanes that ended count as absent.
static bool warp_complete(int warp, unsigned mask)
{
	const thread *first = nullptr;

	for (int l = 0; l < WARP; l++) {
		const thread *t = lane_of(warp, l, mask);
		if (!t || t->state == FINISHED)
			continue;
		if (t->state != IN_WARP || t->mask != mask)
			return false;
		if (first && (t->kind != first->kind || !same_place(t->from, first->from)))
			die("lanes of warp %d meet in different warp operations: %s:%d and %s:%d", warp,
			    first->from.file, first->from.line, t->from.file, t->from.line);
		first = t;
	}
	return first != nullptr;
}

static u64 votes_of(int warp, unsigned mask)
{
	u64 votes = 0;

	for (int l = 0; l < WARP; l++) {
		const thread *t = waiting_lane(warp, l, mask);
		if (t && t->value)
			votes |= 1ull << l;
	}
	return votes;
}

static u64 shuffled(int warp, int l, const thread &t)
{
	const thread *source = waiting_lane(warp, t.source, t.mask);

	if (!source)
		die("shuffle at %s:%d: lane %d reads lane %d, which takes no part (mask %08x)", t.from.file,
		    t.from.line, l, t.source, t.mask);
	return source->value;
}

static void try_warp(int warp, unsigned mask)
{
	if (!warp_complete(warp, mask))
		return;
	const int ready_before = ready_count;
	const u64 votes = votes_of(warp, mask);

	for (int l = 0; l < WARP; l++)
		if (thread *t = waiting_lane(warp, l, mask))
			t->result = t->kind == SHUFFLE ? shuffled(warp, l, *t) : votes;
	for (int l = 0; l < WARP; l++) {
		thread *t = waiting_lane(warp, l, mask);
		if (!t)
			continue;
		in_warp--;
		if (warp * WARP + l == current)
			t->state = RUNNING;
		else
			wake(warp * WARP + l);
	}
	warp_turn[warp] ^= 1;
	shuffle_ready(ready_before);
}

u64 warp_meet(warp_kind kind, unsigned mask, u64 value, int source, place from)
{
	thread &t = threads[current];
	const int warp = current / WARP;
	[[maybe_unused]] const int turn = warp_turn[warp];

	if (!(mask >> lane() & 1))
		die("%s:%d: lane %u is not in its own mask %08x", from.file, from.line, lane(), mask);
	t.state = IN_WARP;
	t.kind = kind;
	t.mask = mask;
	t.value = value;
	t.source = source & (WARP - 1);
	t.from = from;
	in_warp++;
	// Only __syncwarp orders memory.  CUDA promises nothing of shuffles and votes, so they add no
	// edge, and code that leans on them is reported as the race it is.
	TSAN(if (kind == SYNCWARP) __tsan_release(&sync_at->warp[warp][turn]));
	try_warp(warp, mask);
	if (t.state != RUNNING)
		suspend();
	TSAN(if (kind == SYNCWARP) __tsan_acquire(&sync_at->warp[warp][turn]));
	return t.result;
}

// ---- the scheduler

static void finish_thread(int i)
{
	threads[i].state = FINISHED;
	current = -1;
	live--;
	if (at_barrier && at_barrier == live)
		release_barrier();
	for (int l = 0; l < WARP && in_warp; l++) {
		const int peer = i / WARP * WARP + l;
		if (peer < thread_count && threads[peer].state == IN_WARP)
			try_warp(i / WARP, threads[peer].mask);
	}
}

static void run_thread(fiber *f, int i)
{
	thread &t = threads[i];

	t.on = f;
	t.state = RUNNING;
	t.fenced = false;
	make_current(i);
	TSAN(__tsan_switch_to_fiber(t.tsan, NO_SYNC));
	(*body)();
	TSAN(__tsan_release(&grid_sync));
	finish_thread(i);
}

void fiber_main(fiber *f)
{
	for (;;) {
		while (started < thread_count) {
			run_thread(f, order[started++]);
			// a thread's stack and TSan context are never entered again
			TSAN(leave_to_scheduler(f));
			if (ready_count)
				break;
		}
		fiber_give(f);
		leave_to_scheduler(f);
	}
}

[[noreturn]] static void report_deadlock()
{
	int shown = 0;

	fprintf(stderr, "cusim: deadlock in kernel %s block (%u,%u,%u); waiting:\n", kernel_name, blockIdx.x,
		blockIdx.y, blockIdx.z);
	for (int i = 0; i < thread_count && shown < 8; i++) {
		const thread &t = threads[i];
		if (t.state != AT_BARRIER && t.state != IN_WARP)
			continue;
		fprintf(stderr, "  thread %d in %s at %s:%d\n", i,
			t.state == AT_BARRIER ? "__syncthreads" : "a warp operation", t.from.file, t.from.line);
		shown++;
	}
	die("deadlock: a barrier or warp operation that not all its threads reach");
}

static void schedule()
{
	while (live) {
		const bool may_start = started < thread_count;
		const bool rather_start = may_start && set().seed && random_below(2);

		if (ready_count && !rather_start) {
			const thread &t = threads[ready[--ready_count]];
			TSAN(__tsan_switch_to_fiber(t.tsan, NO_SYNC));
			fiber_enter(t.on);
		} else if (may_start) {
			fiber_enter(fiber_take());
		} else {
			report_deadlock();
		}
	}
}

static void choose_thread_order()
{
	if (ordered != thread_count)
		for (int i = 0; i < thread_count; i++)
			order[i] = i;
	ordered = thread_count;
	if (set().seed)
		for (int i = thread_count; i > 1; i--)
			std::swap(order[i - 1], order[random_below((unsigned)i)]);
}

#ifdef CUSIM_TSAN
// Contexts of ended threads are kept until the grid ends, or until there are many: with clang 14
// destroying 256 of them orders every later block after the earlier ones, which hides races.
// TSan's history is short, besides: of blocks that wait at a barrier, a race with the block before is
// seen with 128 threads a block and missed with 256; one of the last block with all others needs 64.
static std::vector<void *> ended;

static void drop_ended()
{
	for (void *context : ended)
		__tsan_destroy_fiber(context);
	ended.clear();
}

static void begin_contexts()
{
	fiber_renew_all(thread_count);
	if (++sync_at == block_places + sizeof(block_places) / sizeof(*block_places))
		sync_at = block_places;
	for (int i = 0; i < thread_count; i++)
		threads[i].tsan = __tsan_create_fiber(0);
}

static void end_contexts()
{
	for (int i = 0; i < thread_count; i++)
		ended.push_back(threads[i].tsan);
	if (ended.size() > 6000)
		drop_ended();
}

static void end_grid()
{
	__tsan_acquire(&grid_sync);
	drop_ended();
}
#else
static void begin_contexts() {}
static void end_contexts() {}
static void end_grid() {}
#endif

static void run_block(size_t shared)
{
	thread_count = live = (int)(blockDim.x * blockDim.y * blockDim.z);
	started = at_barrier = in_warp = predicates = 0;
	choose_thread_order();
	shared_begin(shared);
	for (int i = 0; i < thread_count; i++)
		threads[i].state = NEW;
	begin_contexts();
	schedule();
	end_contexts();
	shared_end();
}

static u64 common_divisor(u64 a, u64 b)
{
	return b ? common_divisor(b, a % b) : a;
}

void run_grid(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &what)
{
	const u64 n = (u64)grid.x * grid.y * grid.z;
	u64 stride = 1, at = 0;

	if (kernel_name)
		die("a launch inside a launch");
	kernel_name = name;
	body = &what;
	gridDim = grid;
	blockDim = block;
	TSAN(scheduler_tsan = __tsan_get_current_fiber());
	if (set().seed && n > 1) {      // block i is (a i + b) mod n: a random order without a table
		do
			stride = 1 + random_below((unsigned)(n - 1));
		while (common_divisor(stride, n) != 1);
		at = random_below((unsigned)n);
	}
	for (u64 i = 0; i < n; i++, at = (at + stride) % n) {
		blockIdx.x = (unsigned)(at % grid.x);
		blockIdx.y = (unsigned)(at / grid.x % grid.y);
		blockIdx.z = (unsigned)(at / grid.x / grid.y);
		run_block(shared);
	}
	end_grid();
	kernel_name = nullptr;
	current = -1;
}

} // namespace cusim
