// Stacks, and the switch between them.
//
// ucontext would do, but each of its switches is a system call (it keeps the signal mask) and a
// barrier of a block of 256 takes 512 of them; this one is a dozen instructions.
#include "emulator.h"

#include <sys/mman.h>

#ifndef __x86_64__
#error "the switch of fibers is written for x86-64"
#endif

// void cusim_switch(void **save, void *to): the registers that a called function must preserve go
// onto the stack, its pointer to *save; then the same in reverse from `to`.
extern "C" void cusim_switch(void **save, void *to);
asm(".text\n"
    ".globl cusim_switch\n"
    ".type cusim_switch,@function\n"
    "cusim_switch:\n"
    "	pushq %rbp\n"
    "	pushq %rbx\n"
    "	pushq %r12\n"
    "	pushq %r13\n"
    "	pushq %r14\n"
    "	pushq %r15\n"
    "	movq %rsp,(%rdi)\n"
    "	movq %rsi,%rsp\n"
    "	popq %r15\n"
    "	popq %r14\n"
    "	popq %r13\n"
    "	popq %r12\n"
    "	popq %rbx\n"
    "	popq %rbp\n"
    "	popq %rdx\n"
    "	jmpq *%rdx\n"
    ".size cusim_switch,.-cusim_switch\n");

// ASan must be told which stack is current, or it takes frames of one for wild accesses of another.
#ifdef CUSIM_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *bytes);
}
static void before_switch(void **fake_stack, const void *bottom, size_t bytes)
{
	__sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
}
static void after_switch(void *fake_stack, const void **bottom, size_t *bytes)
{
	__sanitizer_finish_switch_fiber(fake_stack, bottom, bytes);
}
static const size_t STACK = 256 << 10;  // instrumented frames are several times as large
#else
static void before_switch(void **, const void *, size_t) {}
static void after_switch(void *, const void **, size_t *) {}
static const size_t STACK = 64 << 10;
#endif

namespace cusim {

static const size_t PAGE = 4096;
static fiber fibers[MAX_THREADS];
static int created;
// Arrays and loops, here and in cusim_block.cpp, where a vector would do: malloc and memcpy are
// intercepted by TSan wherever they are called, and would count as accesses of the kernel's thread.
static int free_fibers[MAX_THREADS], free_count;
static void *scheduler_stack_pointer, *scheduler_fake_stack;
static const void *scheduler_stack;
static size_t scheduler_stack_bytes;
static fiber *entered;

char *map_memory(void *at, size_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED)
		die("out of address space");
	return (char *)p;
}

void fiber_enter(fiber *f)
{
	entered = f;
	before_switch(&scheduler_fake_stack, f->stack, f->bytes);
	cusim_switch(&scheduler_stack_pointer, f->stack_pointer);
	after_switch(scheduler_fake_stack, nullptr, nullptr);
}

void fiber_leave(fiber *f)
{
	before_switch(&f->fake_stack, scheduler_stack, scheduler_stack_bytes);
	cusim_switch(&f->stack_pointer, scheduler_stack_pointer);
	after_switch(f->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
}

static void fiber_start()
{
	after_switch(nullptr, &scheduler_stack, &scheduler_stack_bytes);
	fiber_main(entered);
}

// Lays out what cusim_switch pops: six registers, the address to jump to, and a return address that
// nobody uses but that keeps the stack aligned as a call would.
static void prepare(fiber *f, int index)
{
	const size_t spread = (size_t)(index & 63) * 192;       // tops of stacks in different cache sets
	void **top = (void **)(f->stack + f->bytes - 64 - spread);

	*--top = nullptr;
	*--top = (void *)(void (*)())fiber_start;
	for (int i = 0; i < 6; i++)
		*--top = nullptr;
	f->stack_pointer = top;
}

static fiber *create()
{
	fiber *f = &fibers[created++];

	if (!f->stack) {
		f->bytes = STACK;
		f->stack = map_memory(nullptr, STACK + PAGE) + PAGE;
		mprotect(f->stack - PAGE, PAGE, PROT_NONE);     // an overflow is a fault, not a wild write
	}
#ifdef CUSIM_TSAN
	// Fresh pages from an mmap that TSan sees: else what another block's thread did on this stack
	// would race with what this one does.
	map_memory(f->stack + STACK / 2, STACK / 2);
#endif
	prepare(f, created);
	return f;
}

fiber *fiber_take()
{
	return free_count ? &fibers[free_fibers[--free_count]] : create();
}

void fiber_give(fiber *f)
{
	free_fibers[free_count++] = (int)(f - fibers);
}

void fiber_renew_all(int n)
{
	created = free_count = 0;
	while (created < n)
		create();
	while (free_count < n)
		fiber_give(&fibers[free_count]);
}

} // namespace cusim
