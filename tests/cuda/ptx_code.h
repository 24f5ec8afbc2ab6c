#ifndef PTX_CODE_H
#define PTX_CODE_H
/*
 * ptx_code: PTX as the parser leaves it and the executor takes it.
 */
#include "ptx.h"

#include <map>

namespace cusim {

// The opcodes of the subset: X(name, identifier).
#define PTX_OPCODES(X) \
	X(mov, MOV) X(ld, LD) X(ldu, LDU) X(st, ST) X(add, ADD) X(sub, SUB) X(mul, MUL) X(mad, MAD) X(fma, FMA) \
	X(div, DIV) X(rem, REM) X(min, MIN) X(max, MAX) X(abs, ABS) X(neg, NEG) X(copysign, COPYSIGN) \
	X(setp, SETP) X(selp, SELP) X(and, AND) X(or, OR) X(xor, XOR) X(not, NOT) X(shl, SHL) X(shr, SHR) \
	X(cvt, CVT) X(cvta, CVTA) X(bra, BRA) X(bar, BAR) X(barrier, BARRIER) X(shfl, SHFL) X(vote, VOTE) \
	X(atom, ATOM) X(red, RED) X(ex2, EX2) X(lg2, LG2) X(rcp, RCP) X(sqrt, SQRT) X(rsqrt, RSQRT) X(tanh, TANH) \
	X(membar, MEMBAR) X(fence, FENCE) X(ret, RET) X(exit, EXIT) X(popc, POPC) X(clz, CLZ) X(bfe, BFE) \
	X(bfi, BFI) X(shf, SHF) X(brev, BREV) X(prmt, PRMT) X(trap, TRAP)
#define PTX_ENUM(name, identifier) OP_##identifier,
enum opcode { PTX_OPCODES(PTX_ENUM) OP_COUNT };
#undef PTX_ENUM

// kind: u s b f as in the names of types; p predicate, h half, B bf16; 0: not a type
struct ptx_type {
	char kind;
	int bits;
};
inline bool is_float(ptx_type t) { return t.kind == 'f' || t.kind == 'h' || t.kind == 'B'; }

enum operand_kind { NOTHING, REGISTER, IMMEDIATE, SPECIAL, SYMBOL, VECTOR };
struct ptx_operand {
	operand_kind kind = NOTHING;
	int index = 0;                  // of the register, or of the special register
	u64 value = 0;                  // immediate
	int64_t offset = 0;             // [base + offset]
	std::string symbol;
	std::vector<ptx_operand> parts; // of a vector; or, of a register, the second of a|b
};

// Special registers: %tid.x … %nctaid.z in this order, then %laneid, %warpid.
enum { TID = 0, NTID = 3, CTAID = 6, NCTAID = 9, LANE_ID = 12, WARP_ID = 13 };

struct ptx_instruction {
	opcode op;
	std::vector<std::string> words; // as written: the opcode and what follows its dots
	int predicate = -1;             // register, or -1
	bool negated = false;
	ptx_type type{ 'b', 32 }, source_type{ 'b', 32 };      // the first and last type named
	size_t vector = 1;
	char space = 0;                 // g s l p c(onst), 0: generic
	std::vector<ptx_operand> operands;
	int target = -1;                // of a branch
	int line = 0;
};

struct ptx_symbol {
	char space;                     // s l p; d: dynamic shared memory
	u64 offset, bytes;
};

struct ptx_entry {
	std::string name, file;
	std::map<std::string, ptx_symbol> symbols;
	std::map<std::string, int> registers, labels;
	std::vector<ptx_instruction> code;
	u64 parameter_bytes = 0, shared_bytes = 0, local_bytes = 0;
};

const ptx_entry &ptx_find(const char *name);    // of the files that CUSIM_PTX names; dies
[[noreturn]] void ptx_die(const ptx_entry &e, const ptx_instruction *i, const std::string &why);

// ---- ptx_value.cpp: arithmetic on registers, which are 64 bits whatever they hold
u64 truncate(u64 v, int bits);
int64_t extend_sign(u64 v, int bits);
double to_double(u64 v, ptx_type t);            // of any floating type
u64 from_double(double x, ptx_type t);
float to_float(u64 v);
u64 from_float(float f);
u64 binary(opcode op, u64 a, u64 b, ptx_type t);        // add sub mul div rem min max
u64 fused(u64 a, u64 b, u64 c, ptx_type t);
u64 multiply_integers(const std::string &part, u64 a, u64 b, ptx_type t);       // part: lo hi wide
bool compare(const std::string &how, u64 a, u64 b, ptx_type t);
u64 convert(const ptx_instruction &i, u64 v);
u64 unary(opcode op, u64 a, ptx_type t);        // abs neg not and the functions of float; popc clz

} // namespace cusim

#endif
