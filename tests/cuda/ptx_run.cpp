// Runs a grid from its PTX: the threads of a block in turn, each until it waits or ends.
#include "ptx_code.h"

#include <stdlib.h>

#include <unordered_set>

namespace cusim {

enum ptx_state { PTX_RUNNING, PTX_AT_BARRIER, PTX_IN_WARP, PTX_FINISHED };
struct ptx_thread {
	size_t at;                      // index of its next instruction
	ptx_state state;
	unsigned mask;                  // of the warp operation it waits in
	u64 value;                      // given to it
	unsigned source;                // lane a shuffle reads
	bool source_valid;
	u64 special[14];
	std::vector<u64> registers;
	std::vector<char> local;
};

// Which 32-byte sectors of device memory a launch touched: the traffic that no cache can save.
struct sectors {
	std::unordered_set<u64> read, written;
};

class ptx_block {
public:
	ptx_block(const ptx_entry &e, const kernel_launch &l, sectors &touched);
	void run(unsigned x, unsigned y, unsigned z);

private:
	const ptx_entry &entry;
	const kernel_launch &launched;
	sectors &touched;
	const u64 static_bytes;         // dynamic shared memory begins here
	std::vector<char> shared;
	std::vector<ptx_thread> threads;
	size_t live = 0, at_barrier = 0;
	ptx_thread *thread = nullptr;   // that runs
	const ptx_instruction *now = nullptr;

	[[noreturn]] void fail(const std::string &why) const;
	size_t index() const { return (size_t)(thread - threads.data()); }
	u64 get(const ptx_operand &o, ptx_type t);
	u64 argument(size_t k, ptx_type t) { return get(now->operands[k], t); }
	u64 argument(size_t k) { return argument(k, now->type); }
	bool predicate(size_t k) { return argument(k, { 'p', 1 }) & 1; }
	void put(const ptx_operand &o, u64 value, int bits);
	void result(u64 value) { put(now->operands[0], value, now->type.bits); }
	u64 symbol_address(const std::string &name);
	char *inside(std::vector<char> &memory, u64 offset, size_t bytes, const char *what);
	char *global(u64 address, size_t bytes, bool writes);
	char *address(const ptx_operand &o, size_t bytes, bool writes);
	void start(unsigned x, unsigned y, unsigned z);
	void run_thread(ptx_thread &t);
	bool step();
	bool data_step();
	bool logic_step();
	bool memory_step();
	bool waiting_step();
	void load();
	void store();
	void convert_address();
	void atomic();
	void multiply_add();
	void set_predicate();
	void convert_value();
	void extract_bits();
	void insert_bits();
	void funnel_shift();
	void reverse_bits();
	void permute_bytes();
	u64 shifted();
	void wait_at_barrier();
	void shuffle();
	void meet(unsigned mask);
	void release_barrier();
	ptx_thread *waiting(size_t warp, unsigned lane, unsigned mask);
	bool complete(size_t warp, unsigned mask);
	void release_warp(size_t warp, unsigned mask);
	u64 outcome(size_t warp, const ptx_thread &t, u64 votes);
	void finish_warp_operation(ptx_thread &t, u64 value);
	void finish_thread();
};

ptx_block::ptx_block(const ptx_entry &e, const kernel_launch &l, sectors &s)
	: entry(e), launched(l), touched(s), static_bytes((e.shared_bytes + 127) & ~127ull),
	  threads((size_t)l.block.x * l.block.y * l.block.z)
{
}

void ptx_block::fail(const std::string &why) const
{
	if (thread)
		fprintf(stderr, "ptx: block (%llu,%llu,%llu) thread (%llu,%llu,%llu)\n", thread->special[CTAID],
			thread->special[CTAID + 1], thread->special[CTAID + 2], thread->special[TID],
			thread->special[TID + 1], thread->special[TID + 2]);
	ptx_die(entry, now, why);
}

// ---- operands

u64 ptx_block::symbol_address(const std::string &name)
{
	auto at = entry.symbols.find(name);

	if (at == entry.symbols.end())
		fail("unknown symbol " + name);
	return at->second.space == 'd' ? static_bytes : at->second.offset;
}

u64 ptx_block::get(const ptx_operand &o, ptx_type t)
{
	switch (o.kind) {
	case REGISTER: return thread->registers[(size_t)o.index];
	case IMMEDIATE: return o.value;
	case SPECIAL: return thread->special[o.index];
	case SYMBOL: return symbol_address(o.symbol);
	case VECTOR: {
		const int bits = t.bits / (int)o.parts.size();
		u64 v = 0;
		for (size_t i = o.parts.size(); i-- > 0;)
			v = v << bits | truncate(get(o.parts[i], t), bits);
		return v;
	}
	default: return 0;
	}
}

void ptx_block::put(const ptx_operand &o, u64 value, int bits)
{
	if (o.kind == REGISTER) {
		thread->registers[(size_t)o.index] = truncate(value, bits);
	} else if (o.kind == VECTOR) {
		const int part = bits / (int)o.parts.size();
		for (size_t i = 0; i < o.parts.size(); i++)
			put(o.parts[i], value >> ((int)i * part), part);
	} else if (o.kind != NOTHING) {
		fail("a bad destination");
	}
}

// ---- memory

char *ptx_block::inside(std::vector<char> &memory, u64 offset, size_t bytes, const char *what)
{
	if (offset + bytes > memory.size())
		fail(std::string(what) + " access out of bounds");
	if (offset % bytes)
		fail(std::string("misaligned ") + what + " access");
	return memory.data() + offset;
}

char *ptx_block::global(u64 at, size_t bytes, bool writes)
{
	char *p = (char *)at;

	if (at % bytes)
		fail("misaligned global access");
	if (is_pinned(p))
		return p;
	if (const char *problem = range_problem(p, bytes))
		fail("global access to what " + std::string(problem));
	(writes ? touched.written : touched.read).insert(arena_offset(p) / 32);
	return p;
}

static bool within(const std::vector<char> &memory, u64 at)
{
	return at >= (u64)memory.data() && at < (u64)memory.data() + memory.size();
}

char *ptx_block::address(const ptx_operand &o, size_t bytes, bool writes)
{
	const u64 at = get(o, { 'u', 64 }) + (u64)o.offset;

	switch (now->space) {
	case 'p': return const_cast<char *>(launched.parameters.data()) + at;
	case 's': return inside(shared, at, bytes, "shared");
	case 'l': return inside(thread->local, at, bytes, "local");
	default:
		if (within(shared, at))
			return inside(shared, at - (u64)shared.data(), bytes, "shared");
		if (within(thread->local, at))
			return inside(thread->local, at - (u64)thread->local.data(), bytes, "local");
		return global(at, bytes, writes);
	}
}

void ptx_block::load()
{
	const size_t bytes = (size_t)now->type.bits / 8;
	const bool sign = now->type.kind == 's';
	const ptx_operand &to = now->operands[0];
	const char *from = address(now->operands[1], bytes * now->vector, false);

	for (size_t i = 0; i < now->vector; i++) {
		u64 v = 0;
		memcpy(&v, from + i * bytes, bytes);
		if (sign)
			v = (u64)extend_sign(v, now->type.bits);
		put(now->vector > 1 ? to.parts[i] : to, v, sign ? 64 : now->type.bits);
	}
}

void ptx_block::store()
{
	const size_t bytes = (size_t)now->type.bits / 8;
	const ptx_operand &from = now->operands[1];
	char *to = address(now->operands[0], bytes * now->vector, true);

	for (size_t i = 0; i < now->vector; i++) {
		const u64 v = get(now->vector > 1 ? from.parts[i] : from, now->type);
		memcpy(to + i * bytes, &v, bytes);
	}
}

// cvta.to.shared: a generic address to an offset; cvta.shared: the other way
void ptx_block::convert_address()
{
	const bool to = now->words[1] == "to";
	const char space = now->words[to ? 2 : 1][0];
	const u64 base = space == 's' ? (u64)shared.data() : space == 'l' ? (u64)thread->local.data() : 0;

	result(to ? argument(1) - base : argument(1) + base);
}

void ptx_block::atomic()
{
	static const std::vector<std::string> kinds = { "add", "min", "max", "and", "or", "xor", "exch", "cas" };
	const size_t bytes = (size_t)now->type.bits / 8, a = now->op == OP_ATOM ? 1 : 0;
	char *at = address(now->operands[a], bytes, true);
	const u64 operand = argument(a + 1);
	u64 was = 0, next = 0;
	std::string kind;

	for (const std::string &w : now->words)
		for (const std::string &k : kinds)
			if (w == k)
				kind = k;
	memcpy(&was, at, bytes);
	if (kind == "add" || kind == "min" || kind == "max")
		next = binary(kind == "add" ? OP_ADD : kind == "min" ? OP_MIN : OP_MAX, was, operand, now->type);
	else if (kind == "and" || kind == "or" || kind == "xor")
		next = kind == "and" ? was & operand : kind == "or" ? was | operand : was ^ operand;
	else if (kind == "exch")
		next = operand;
	else if (kind == "cas")
		next = truncate(was, now->type.bits) == truncate(operand, now->type.bits) ? argument(a + 2) : was;
	else
		fail("an atomic that is not in the subset");
	memcpy(at, &next, bytes);
	if (now->op == OP_ATOM)
		result(was);
}

// ---- arithmetic

static bool has_word(const ptx_instruction &i, const char *word)
{
	for (const std::string &w : i.words)
		if (w == word)
			return true;
	return false;
}

void ptx_block::multiply_add()
{
	const bool wide = has_word(*now, "wide");
	const char *part = wide ? "wide" : has_word(*now, "hi") ? "hi" : "lo";
	const int bits = wide ? now->type.bits * 2 : now->type.bits;
	const bool add = now->op == OP_MAD;

	if (is_float(now->type)) {
		result(add ? fused(argument(1), argument(2), argument(3), now->type)
			   : binary(OP_MUL, argument(1), argument(2), now->type));
		return;
	}
	const u64 product = multiply_integers(part, argument(1), argument(2), now->type);
	put(now->operands[0], product + (add ? argument(3, { now->type.kind, bits }) : 0), bits);
}

void ptx_block::set_predicate()
{
	const ptx_operand &to = now->operands[0];
	bool r = compare(now->words[1], argument(1), argument(2), now->type);

	if (now->operands.size() > 3) {
		const std::string &join = now->words[2];
		const bool with = predicate(3);
		r = join == "and" ? r && with : join == "or" ? r || with : r != with;
	}
	put(to, r, 1);
	if (!to.parts.empty())
		put(to.parts[0], !r, 1);
}

void ptx_block::convert_value()
{
	const ptx_type narrow = { now->type.kind, 16 };

	if (now->operands.size() == 3) {        // cvt.rn.bf16x2.f32 d, a, b: a is the high half
		const u64 high = from_double(to_double(argument(1), now->source_type), narrow);
		const u64 low = from_double(to_double(argument(2), now->source_type), narrow);
		result(high << 16 | low);
		return;
	}
	const bool sign = now->type.kind == 's' && now->type.bits < 32;
	put(now->operands[0], convert(*now, argument(1, now->source_type)), sign ? 64 : now->type.bits);
}

u64 ptx_block::shifted()
{
	const u64 by = truncate(argument(2, { 'u', 32 }), 32), v = argument(1);
	const int bits = now->type.bits;

	if (now->op == OP_SHL)
		return by >= (u64)bits ? 0 : v << by;
	if (now->type.kind == 's')
		return (u64)(extend_sign(v, bits) >> (by > 63 ? 63 : by));
	return by >= (u64)bits ? 0 : truncate(v, bits) >> by;
}

void ptx_block::extract_bits()
{
	const u64 from = argument(2) & 255, length = argument(3) & 255;
	const u64 v = length ? truncate(truncate(argument(1), now->type.bits) >> (from > 63 ? 63 : from), (int)length) : 0;

	result(now->type.kind == 's' && length ? (u64)extend_sign(v, (int)length) : v);
}

// bfi d, a, b, at, length: b with its bits [at, at + length) taken from a
void ptx_block::insert_bits()
{
	const u64 at = argument(3, { 'u', 32 }) & 255, length = argument(4, { 'u', 32 }) & 255;
	const u64 bits = at > 63 ? 0 : truncate(~0ull, (int)(length > 64 ? 64 : length)) << at;

	result((argument(2) & ~bits) | ((at > 63 ? 0 : argument(1) << at) & bits));
}

// shf.l|r.wrap|clamp d, low, high, by: 32 bits of the 64 of high:low, shifted
void ptx_block::funnel_shift()
{
	const u64 both = truncate(argument(1), 32) | truncate(argument(2), 32) << 32, given = argument(3);
	const u64 by = has_word(*now, "wrap") ? given & 31 : truncate(given, 32) > 32 ? 32 : truncate(given, 32);

	result(now->words[1] == "l" ? both << by >> 32 : both >> by);
}

void ptx_block::reverse_bits()
{
	u64 v = argument(1), r = 0;

	for (int i = 0; i < now->type.bits; i++, v >>= 1)
		r = r << 1 | (v & 1);
	result(r);
}

void ptx_block::permute_bytes()
{
	const u64 bytes = truncate(argument(1), 32) | truncate(argument(2), 32) << 32, selectors = argument(3);
	u64 r = 0;

	for (int k = 0; k < 4; k++) {
		const u64 selector = selectors >> (4 * k) & 15;
		u64 byte = bytes >> (8 * (selector & 7)) & 255;
		if (selector & 8)       // its sign, eight times
			byte = byte & 128 ? 255 : 0;
		r |= byte << (8 * k);
	}
	put(now->operands[0], r, 32);
}

// ---- barriers and warps

void ptx_block::release_barrier()
{
	if (!at_barrier || at_barrier != live)
		return;
	for (ptx_thread &t : threads)
		if (t.state == PTX_AT_BARRIER) {
			t.state = PTX_RUNNING;
			t.at++;
		}
	at_barrier = 0;
}

void ptx_block::wait_at_barrier()
{
	thread->state = PTX_AT_BARRIER;
	at_barrier++;
	release_barrier();
}

ptx_thread *ptx_block::waiting(size_t warp, unsigned lane, unsigned mask)
{
	const size_t i = warp * WARP + lane;

	if (!(mask >> lane & 1) || i >= threads.size())
		return nullptr;
	return threads[i].state == PTX_IN_WARP && threads[i].mask == mask ? &threads[i] : nullptr;
}

bool ptx_block::complete(size_t warp, unsigned mask)
{
	const ptx_thread *first = nullptr;

	for (unsigned lane = 0; lane < (unsigned)WARP; lane++) {
		const size_t i = warp * WARP + lane;
		if (!(mask >> lane & 1) || i >= threads.size() || threads[i].state == PTX_FINISHED)
			continue;
		const ptx_thread *t = waiting(warp, lane, mask);
		if (!t)
			return false;
		if (first && t->at != first->at)
			fail("lanes meet in different warp operations");
		first = t;
	}
	return first != nullptr;
}

u64 ptx_block::outcome(size_t warp, const ptx_thread &t, u64 votes)
{
	const ptx_instruction &i = entry.code[t.at];

	if (i.op == OP_SHFL) {
		const ptx_thread *source = waiting(warp, t.source, t.mask);
		if (!source)
			fail("a shuffle reads a lane that takes no part");
		return source->value;
	}
	if (i.op != OP_VOTE)
		return 0;
	const std::string &kind = i.words[2];
	return kind == "ballot" ? votes : kind == "any" ? votes != 0 : votes == t.mask;
}

void ptx_block::finish_warp_operation(ptx_thread &t, u64 value)
{
	ptx_thread *running = thread;

	thread = &t;
	now = &entry.code[t.at];
	if (now->op == OP_SHFL) {
		put(now->operands[0], value, 32);
		if (!now->operands[0].parts.empty())
			put(now->operands[0].parts[0], t.source_valid, 1);
	} else if (now->op == OP_VOTE) {
		put(now->operands[0], value, now->words[2] == "ballot" ? 32 : 1);
	}
	t.state = PTX_RUNNING;
	t.at++;
	thread = running;
}

void ptx_block::release_warp(size_t warp, unsigned mask)
{
	u64 votes = 0, outcomes[WARP] = {};

	if (!complete(warp, mask))
		return;
	for (unsigned lane = 0; lane < (unsigned)WARP; lane++)
		if (const ptx_thread *t = waiting(warp, lane, mask))
			votes |= (u64)(t->value != 0) << lane;
	for (unsigned lane = 0; lane < (unsigned)WARP; lane++)
		if (const ptx_thread *t = waiting(warp, lane, mask))
			outcomes[lane] = outcome(warp, *t, votes);
	for (unsigned lane = 0; lane < (unsigned)WARP; lane++)
		if (ptx_thread *t = waiting(warp, lane, mask))
			finish_warp_operation(*t, outcomes[lane]);
}

void ptx_block::meet(unsigned mask)
{
	if (!(mask >> (index() % WARP) & 1))
		fail("a lane that is not in its own mask");
	thread->mask = mask;
	thread->state = PTX_IN_WARP;
	release_warp(index() / WARP, mask);
}

// shfl.sync.mode d|p, a, b, c, mask: c packs the clamp (bits 0-4) and the segment mask (8-12)
void ptx_block::shuffle()
{
	const int lane = (int)(index() % WARP), b = (int)(argument(2) & 31);
	const int clamp = (int)(argument(3) & 31), segment = (int)(argument(3) >> 8 & 31);
	const int first = lane & segment, last = first | (clamp & ~segment);
	const std::string &mode = now->words[2];
	int source = first | (b & ~segment);

	if (mode == "up")
		source = lane - b;
	else if (mode == "down")
		source = lane + b;
	else if (mode == "bfly")
		source = lane ^ b;
	thread->source_valid = mode == "up" ? source >= last : source <= last;
	thread->source = (unsigned)(thread->source_valid ? source : lane);
	thread->value = truncate(argument(1), 32);
	meet((unsigned)argument(4));
}

void ptx_block::finish_thread()
{
	const size_t warp = index() / WARP;

	thread->state = PTX_FINISHED;
	live--;
	release_barrier();
	for (size_t i = warp * WARP; i < (warp + 1) * WARP && i < threads.size(); i++)
		if (threads[i].state == PTX_IN_WARP)
			release_warp(warp, threads[i].mask);
}

// ---- execution: each of the four returns whether the instruction was one of its own

bool ptx_block::data_step()
{
	switch (now->op) {
	case OP_MOV: result(argument(1)); return true;
	case OP_ADD:
	case OP_SUB:
	case OP_DIV:
	case OP_REM:
	case OP_MIN:
	case OP_MAX: result(binary(now->op, argument(1), argument(2), now->type)); return true;
	case OP_MUL:
	case OP_MAD: multiply_add(); return true;
	case OP_FMA: result(fused(argument(1), argument(2), argument(3), now->type)); return true;
	case OP_COPYSIGN: result(from_float(copysignf(to_float(argument(2)), to_float(argument(1))))); return true;
	case OP_ABS:
	case OP_NEG:
	case OP_NOT:
	case OP_EX2:
	case OP_LG2:
	case OP_RCP:
	case OP_SQRT:
	case OP_RSQRT:
	case OP_TANH: result(unary(now->op, argument(1), now->type)); return true;
	case OP_POPC:
	case OP_CLZ: put(now->operands[0], unary(now->op, argument(1), now->type), 32); return true;
	case OP_CVT: convert_value(); return true;
	case OP_CVTA: convert_address(); return true;
	default: return false;
	}
}

bool ptx_block::logic_step()
{
	switch (now->op) {
	case OP_SETP: set_predicate(); return true;
	case OP_SELP: result(predicate(3) ? argument(1) : argument(2)); return true;
	case OP_AND: result(argument(1) & argument(2)); return true;
	case OP_OR: result(argument(1) | argument(2)); return true;
	case OP_XOR: result(argument(1) ^ argument(2)); return true;
	case OP_SHL:
	case OP_SHR: result(shifted()); return true;
	case OP_BFE: extract_bits(); return true;
	case OP_BFI: insert_bits(); return true;
	case OP_SHF: funnel_shift(); return true;
	case OP_BREV: reverse_bits(); return true;
	case OP_PRMT: permute_bytes(); return true;
	default: return false;
	}
}

bool ptx_block::memory_step()
{
	switch (now->op) {
	case OP_LD:
	case OP_LDU: load(); return true;
	case OP_ST: store(); return true;
	case OP_ATOM:
	case OP_RED: atomic(); return true;
	case OP_MEMBAR:
	case OP_FENCE: return true;     // one thread runs at a time
	default: return false;
	}
}

// These advance the thread themselves, when they are over for all who take part.
bool ptx_block::waiting_step()
{
	switch (now->op) {
	case OP_BAR:
	case OP_BARRIER:
		if (now->words[1] == "warp") {
			thread->value = 0;
			meet((unsigned)argument(0));
		} else {
			wait_at_barrier();
		}
		return true;
	case OP_SHFL: shuffle(); return true;
	case OP_VOTE:
		thread->value = predicate(1);
		meet((unsigned)argument(2, { 'b', 32 }));
		return true;
	case OP_RET:
	case OP_EXIT: finish_thread(); return true;
	case OP_BRA: thread->at = (size_t)now->target; return true;
	default: return false;
	}
}

bool ptx_block::step()
{
	if (waiting_step())
		return true;
	if (!data_step() && !logic_step() && !memory_step())
		fail(now->op == OP_TRAP ? "trap" : "an instruction that is not implemented");
	thread->at++;
	return true;
}

void ptx_block::run_thread(ptx_thread &t)
{
	while (t.state == PTX_RUNNING) {
		thread = &t;
		now = &entry.code[t.at];
		if (now->predicate >= 0 && (t.registers[(size_t)now->predicate] & 1) == (u64)now->negated)
			t.at++;
		else
			step();
	}
}

void ptx_block::start(unsigned x, unsigned y, unsigned z)
{
	const dim3 b = launched.block, g = launched.grid;

	shared.assign(static_bytes + launched.shared, (char)0xff);
	live = threads.size();
	at_barrier = 0;
	for (unsigned i = 0; i < threads.size(); i++) {
		ptx_thread &t = threads[i];
		const u64 special[] = { i % b.x, i / b.x % b.y, i / b.x / b.y, b.x, b.y, b.z, x, y, z, g.x, g.y, g.z,
					i % WARP, i / WARP };
		t.at = 0;
		t.state = PTX_RUNNING;
		memcpy(t.special, special, sizeof(special));
		t.registers.assign(entry.registers.size(), 0xdeadbeefdeadbeefull);
		t.local.assign(entry.local_bytes, (char)0xff);
	}
}

void ptx_block::run(unsigned x, unsigned y, unsigned z)
{
	start(x, y, z);
	while (live) {
		bool any = false;
		for (ptx_thread &t : threads) {
			any |= t.state == PTX_RUNNING;
			run_thread(t);
		}
		if (!any)
			fail("deadlock");
	}
}

void ptx_run(const char *name, const kernel_launch &l)
{
	const ptx_entry &e = ptx_find(name);
	sectors touched;

	if (e.parameter_bytes > l.parameters.size())
		die("%s takes %llu bytes of parameters, not %zu", name, e.parameter_bytes, l.parameters.size());
	ptx_block block(e, l, touched);
	for (unsigned z = 0; z < l.grid.z; z++)
		for (unsigned y = 0; y < l.grid.y; y++)
			for (unsigned x = 0; x < l.grid.x; x++)
				block.run(x, y, z);
	traffic_sum &sum = tally("kernel", l.name);
	sum.touched_read += 32 * touched.read.size();
	sum.touched_written += 32 * touched.written.size();
}

} // namespace cusim
