#ifndef AMX_H
#define AMX_H
/*
 * amx: executes AMX's tile instructions on processors that lack them.  There
 * they are illegal instructions: a signal handler decodes the few that the
 * kernels use (Intel SDM volume 2: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD,
 * TILELOADDT1, TILESTORED, TDPBF16PS), does their work and steps over them.  So
 * the very code that runs in matrix units is tested everywhere, slowly.
 * Anything unexpected ends the program.  Sums of TDPBF16PS: of even and of odd
 * values of a row apart, then together, then onto the tile; denormals stay.
 */
#include "cpu_bf16.h"

#if defined(__x86_64__) && defined(__linux__)

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

struct amx_state {
	bool configured;
	struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} config;
	uint8_t tile[8][16][64];
};

static _Thread_local struct amx_state amx_tiles;

static void amx_refuse(const char *why)
{
	const ssize_t n = write(STDERR_FILENO, why, strlen(why));

	_exit(n < 0 ? 3 : 2);
}

/* An instruction taken apart: VEX prefix, opcode, ModRM, memory operand. */
struct amx_code {
	uint8_t opcode, prefix, third;          /* prefix: 0 none, 1 66, 2 F3, 3 F2; third: register in vvvv */
	uint8_t mod, reg, rm;
	uintptr_t address;
	intptr_t stride;
	size_t length;
};

static uint64_t amx_register(const ucontext_t *u, unsigned number)
{
	static const int at[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

	return (uint64_t)u->uc_mcontext.gregs[at[number]];
}

static void amx_operand(struct amx_code *c, const ucontext_t *u, const uint8_t *p, bool x, bool b)
{
	uint64_t address = 0;
	int32_t far = 0;
	bool wide = c->mod == 2;
	size_t n = 5;

	if (c->rm == 4) {
		const uint8_t sib = p[n++];
		const unsigned index = (sib >> 3 & 7) | (unsigned)x << 3, base = (sib & 7) | (unsigned)b << 3;

		if (index != 4)
			c->stride = (intptr_t)(amx_register(u, index) << (sib >> 6));
		if ((sib & 7) == 5 && c->mod == 0)
			wide = true;
		else
			address = amx_register(u, base);
	} else if (c->rm == 5 && c->mod == 0) {
		wide = true;            /* relative to the next instruction */
		address = (uintptr_t)p + n + 4;
	} else {
		address = amx_register(u, c->rm | (unsigned)b << 3);
	}
	if (wide)
		memcpy(&far, p + n, sizeof(far)), n += 4;
	else if (c->mod == 1)
		far = (int8_t)p[n++];
	c->address = (uintptr_t)(address + (uint64_t)(int64_t)far);
	c->length = n;
}

static struct amx_code amx_decode(const ucontext_t *u)
{
	const uint8_t *p = (const uint8_t *)(uintptr_t)u->uc_mcontext.gregs[REG_RIP];

	if (p[0] != 0xc4 || (p[1] & 0x1f) != 2 || (p[2] & 0x84))        /* map 0F38, W 0, L 0 */
		amx_refuse("amx: an illegal instruction that is none of the tiles'\n");
	struct amx_code c = { .opcode = p[3], .prefix = p[2] & 3, .third = ~(p[2] >> 3) & 15,
		.mod = p[4] >> 6, .reg = p[4] >> 3 & 7, .rm = p[4] & 7, .length = 5 };

	if (c.mod != 3)
		amx_operand(&c, u, p, !(p[1] & 0x40), !(p[1] & 0x20));
	return c;
}

static void amx_move(const struct amx_code *c, bool store)
{
	const size_t bytes = amx_tiles.config.bytes[c->reg];

	for (intptr_t r = 0; r < amx_tiles.config.rows[c->reg]; r++) {
		uint8_t *memory = (uint8_t *)(c->address + (uintptr_t)(r * c->stride));

		if (store) {
			memcpy(memory, amx_tiles.tile[c->reg][r], bytes);
			continue;
		}
		memset(amx_tiles.tile[c->reg][r], 0, 64);
		memcpy(amx_tiles.tile[c->reg][r], memory, bytes);
	}
}

static float amx_bf16(const uint8_t *row, size_t i)
{
	const uint32_t bits = (uint32_t)row[2 * i] << 16 | (uint32_t)row[2 * i + 1] << 24;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* tile reg += tile rm · tile third */
static void amx_dot(const struct amx_code *c)
{
	const size_t rows = amx_tiles.config.rows[c->reg], columns = amx_tiles.config.bytes[c->reg] / 4;
	const size_t pairs = amx_tiles.config.bytes[c->rm] / 4;

	if (c->third > 7 || pairs != amx_tiles.config.rows[c->third] || rows != amx_tiles.config.rows[c->rm] ||
	    columns != amx_tiles.config.bytes[c->third] / 4u || c->reg == c->rm || c->reg == c->third)
		amx_refuse("amx: tiles that do not fit\n");
	for (size_t r = 0; r < rows; r++)
		for (size_t j = 0; j < columns; j++) {
			const uint8_t *a = amx_tiles.tile[c->rm][r];
			float even = 0, odd = 0, sum;

			for (size_t k = 0; k < pairs; k++) {
				const uint8_t *b = amx_tiles.tile[c->third][k];

				even = fmaf(amx_bf16(a, 2 * k), amx_bf16(b, 2 * j), even);
				odd = fmaf(amx_bf16(a, 2 * k + 1), amx_bf16(b, 2 * j + 1), odd);
			}
			memcpy(&sum, amx_tiles.tile[c->reg][r] + 4 * j, sizeof(sum));
			sum += even + odd;
			memcpy(amx_tiles.tile[c->reg][r] + 4 * j, &sum, sizeof(sum));
		}
}

static void amx_configure(const struct amx_code *c)
{
	memset(&amx_tiles, 0, sizeof(amx_tiles));
	memcpy(&amx_tiles.config, (const void *)c->address, sizeof(amx_tiles.config));
	if (amx_tiles.config.palette != 1 || amx_tiles.config.start_row)
		amx_refuse("amx: an odd configuration\n");
	for (size_t i = 0; i < 16; i++)
		if (amx_tiles.config.bytes[i] > (i < 8 ? 64 : 0) || amx_tiles.config.rows[i] > (i < 8 ? 16 : 0))
			amx_refuse("amx: a tile beyond its size\n");
	amx_tiles.configured = true;
}

static void amx_on_illegal(int signal, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	const struct amx_code c = amx_decode(u);
	const unsigned what = (unsigned)c.opcode << 8 | (unsigned)c.prefix << 4 | (c.mod == 3);

	(void)signal, (void)info;
	if (what != 0x4900 && !amx_tiles.configured)
		amx_refuse("amx: tiles without a configuration\n");
	if (what == 0x4900)             /* LDTILECFG */
		amx_configure(&c);
	else if (what == 0x4901)        /* TILERELEASE */
		amx_tiles.configured = false;
	else if (what == 0x4931)        /* TILEZERO */
		memset(amx_tiles.tile[c.reg], 0, sizeof(amx_tiles.tile[c.reg]));
	else if (what == 0x4b30 || what == 0x4b10)      /* TILELOADD, TILELOADDT1 */
		amx_move(&c, false);
	else if (what == 0x4b20)        /* TILESTORED */
		amx_move(&c, true);
	else if (what == 0x5c21)        /* TDPBF16PS */
		amx_dot(&c);
	else
		amx_refuse("amx: an instruction that is not known here\n");
	u->uc_mcontext.gregs[REG_RIP] += (greg_t)c.length;
}

/* Takes the kernels for matrix units, with their instructions emulated; false: not on this system. */
static inline bool amx_emulate(void)
{
	struct sigaction act = { .sa_sigaction = amx_on_illegal, .sa_flags = SA_SIGINFO };

	if (!cpu_use_isa("avx512") || sigaction(SIGILL, &act, NULL))
		return false;
	cpu_16 = &cpu_bf16_amx;
	return true;
}

#else

static inline bool amx_emulate(void)
{
	return false;
}

#endif
#endif
