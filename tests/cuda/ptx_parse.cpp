// The text of PTX to entries: one pass over its characters, a statement at a time.
#include "ptx_code.h"

#include <ctype.h>
#include <stdlib.h>

#include <algorithm>

namespace cusim {

typedef std::vector<std::string> words;

void ptx_die(const ptx_entry &e, const ptx_instruction *i, const std::string &why)
{
	fprintf(stderr, "ptx: error: %s in %s, %s line %d:", why.c_str(), e.name.c_str(), e.file.c_str(),
		i ? i->line : 0);
	if (i)
		for (const std::string &w : i->words)
			fprintf(stderr, " %s", w.c_str());
	fputc('\n', stderr);
	abort();
}

static std::string trimmed(const std::string &s)
{
	size_t from = 0, to = s.size();

	while (from < to && isspace((unsigned char)s[from]))
		from++;
	while (to > from && isspace((unsigned char)s[to - 1]))
		to--;
	return s.substr(from, to - from);
}

// At separators outside brackets; parts are trimmed.
static words split(const std::string &s, char separator)
{
	words out(1);
	int depth = 0;

	for (char c : s) {
		depth += strchr("[{(", c) ? 1 : strchr("]})", c) ? -1 : 0;
		if (c == separator && depth == 0)
			out.emplace_back();
		else
			out.back() += c;
	}
	for (std::string &w : out)
		w = trimmed(w);
	return out;
}

static words split_nonempty(const std::string &s, char separator)
{
	words out;

	for (const std::string &w : split(s, separator))
		if (!w.empty())
			out.push_back(w);
	return out;
}

static ptx_type type_named(const std::string &s)
{
	if (s == "pred")
		return { 'p', 1 };
	if (s == "bf16" || s == "bf16x2")
		return { 'B', s == "bf16" ? 16 : 32 };
	if (s == "f16" || s == "f16x2")
		return { 'h', s == "f16" ? 16 : 32 };
	if (s.size() >= 2 && strchr("usbf", s[0]) && isdigit((unsigned char)s[1]))
		return { s[0], atoi(s.c_str() + 1) };
	return { 0, 0 };
}

static u64 number_after(const std::string &s, const char *word, u64 otherwise)
{
	const size_t at = s.find(word);

	return at == std::string::npos ? otherwise : strtoull(s.c_str() + at + strlen(word), nullptr, 10);
}

static u64 round_up(u64 n, u64 unit) { return (n + unit - 1) / unit * unit; }

// "… .align 4 .b8 name[128]": the variable's name, size and alignment.
struct declaration {
	std::string name;
	u64 bytes, align;
};

static declaration declared(const std::string &s)
{
	const size_t bracket = s.find('[');
	const words w = split_nonempty(s.substr(0, bracket), ' ');
	u64 element = 8;

	for (const std::string &x : w)
		if (x[0] == '.' && type_named(x.substr(1)).kind)
			element = (u64)type_named(x.substr(1)).bits / 8;
	const u64 count = bracket == std::string::npos ? 1 : strtoull(s.c_str() + bracket + 1, nullptr, 10);
	return { w.empty() ? "" : w.back(), element * count, number_after(s, ".align", element) };
}

static void declare_memory(ptx_entry &e, const std::string &s)
{
	const bool shared = s.find(".shared") != std::string::npos;
	const u64 REDZONE = shared ? 32 : 0;
	u64 &total = shared ? e.shared_bytes : e.local_bytes;
	const declaration d = declared(s);

	if (s.find(".extern") != std::string::npos) {
		e.symbols[d.name] = { 'd', 0, 0 };
		return;
	}
	total = round_up(total, d.align);
	e.symbols[d.name] = { shared ? 's' : 'l', total, d.bytes };
	total += d.bytes + REDZONE;
}

static const char *const special_names[] = {
	"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
	"%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid",
};

static int special_named(const std::string &s)
{
	for (size_t i = 0; i < sizeof(special_names) / sizeof(*special_names); i++)
		if (s == special_names[i])
			return (int)i;
	return -1;
}

static opcode opcode_named(const std::string &s)
{
#define PTX_NAME(name, identifier) #name,
	static const char *const names[] = { PTX_OPCODES(PTX_NAME) };
#undef PTX_NAME
	int i = 0;

	while (i < OP_COUNT && s != names[i])
		i++;
	return (opcode)i;
}

class parser {
public:
	parser(std::map<std::string, ptx_entry> &into, const std::string &path) : entries(into), file(path) {}
	void read(const std::string &text);

private:
	std::map<std::string, ptx_entry> &entries;
	const std::string file;
	ptx_entry *entry = nullptr;     // whose parameters or body are being read
	// A name in { } inside a body hides one outside: what it stands for, innermost last.
	std::vector<std::map<std::string, std::string>> scopes;
	words module_shared;            // declared outside entries: of all of them
	std::string statement;
	bool in_parameters = false;
	int line = 1, renamed = 0;

	int find_register(const std::string &name);
	void add_register(const std::string &name);
	void declare_registers(const std::string &s);
	void declare_parameter();
	ptx_operand operand(const std::string &s);
	ptx_operand address(const std::string &s);
	ptx_operand immediate(const std::string &s);
	void parse_suffixes(ptx_instruction &i);
	void parse_operands(ptx_instruction &i, const std::string &s);
	void parse_instruction(std::string s);
	void end_statement();
	void close_brace();
	void begin_entry();
	void character(const std::string &text, size_t at);
	void finish();
};

int parser::find_register(const std::string &name)
{
	for (size_t i = scopes.size(); i-- > 0;) {
		auto hidden = scopes[i].find(name);
		if (hidden != scopes[i].end())
			return entry->registers[hidden->second];
	}
	auto at = entry->registers.find(name);
	return at == entry->registers.end() ? -1 : at->second;
}

void parser::add_register(const std::string &name)
{
	std::string unique = name;

	if (scopes.size() > 1) {
		unique += "@" + std::to_string(renamed++);
		scopes.back()[name] = unique;
	}
	const int index = (int)entry->registers.size();
	entry->registers[unique] = index;
}

void parser::declare_registers(const std::string &s)    // .reg .b32 %r<5>, x
{
	for (const std::string &part : split(s.substr(s.find_first_of(" \t", 5)), ',')) {
		const std::string name = split(part, ' ').back();
		const size_t range = name.find('<');
		if (range == std::string::npos) {
			add_register(name);
			continue;
		}
		for (int i = 0; i < atoi(name.c_str() + range + 1); i++)
			add_register(name.substr(0, range) + std::to_string(i));
	}
}

void parser::declare_parameter()
{
	const declaration d = declared(statement);

	statement.clear();
	if (d.name.empty())
		return;
	const u64 at = round_up(entry->parameter_bytes, d.align);
	entry->symbols[d.name] = { 'p', at, d.bytes };
	entry->parameter_bytes = at + d.bytes;
}

ptx_operand parser::address(const std::string &s)
{
	const std::string inside = s.substr(1, s.size() - 2);
	const size_t plus = inside.find('+');
	ptx_operand o = operand(split(trimmed(inside.substr(0, plus)), ',')[0]);

	if (plus != std::string::npos)
		o.offset = strtoll(inside.c_str() + plus + 1, nullptr, 0);
	return o;
}

ptx_operand parser::immediate(const std::string &s)
{
	const bool bits = s.size() > 2 && s[0] == '0' && strchr("fFdD", s[1]);  // 0f3F800000, 0d…
	ptx_operand o;

	o.kind = IMMEDIATE;
	if (bits)
		o.value = strtoull(s.c_str() + 2, nullptr, 16);
	else if (s[0] == '-')
		o.value = (u64)strtoll(s.c_str(), nullptr, 0);
	else
		o.value = strtoull(s.c_str(), nullptr, 0);
	return o;
}

ptx_operand parser::operand(const std::string &s)
{
	ptx_operand o;

	if (s == "_")
		return o;
	if (s[0] == '[')
		return address(s);
	if (s[0] == '{') {
		o.kind = VECTOR;
		for (const std::string &part : split(s.substr(1, s.size() - 2), ','))
			o.parts.push_back(operand(part));
		return o;
	}
	if ((o.index = special_named(s)) >= 0) {
		o.kind = SPECIAL;
		return o;
	}
	if ((o.index = find_register(s)) >= 0) {
		o.kind = REGISTER;
		return o;
	}
	if (isdigit((unsigned char)s[0]) || s[0] == '-')
		return immediate(s);
	o.kind = SYMBOL;
	o.symbol = s;
	return o;
}

void parser::parse_suffixes(ptx_instruction &i)
{
	static const words spaces = { "global", "shared", "local", "param", "const" };
	bool typed = false;

	for (size_t k = 1; k < i.words.size(); k++) {
		const std::string &w = i.words[k];
		if (w == "v2" || w == "v4")
			i.vector = (size_t)(w[1] - '0');
		for (const std::string &space : spaces)
			if (w.substr(0, w.find("::")) == space)
				i.space = space[0];
		const ptx_type t = type_named(w);
		if (!t.kind)
			continue;
		if (!typed)
			i.type = t;
		i.source_type = t;
		typed = true;
	}
}

void parser::parse_operands(ptx_instruction &i, const std::string &s)
{
	for (const std::string &part : split(s, ',')) {
		const size_t bar = strchr("[{", part[0]) ? std::string::npos : part.find('|');
		i.operands.push_back(operand(part.substr(0, bar)));
		if (bar != std::string::npos)   // shfl and setp: a second result
			i.operands.back().parts.push_back(operand(part.substr(bar + 1)));
	}
}

void parser::parse_instruction(std::string s)
{
	ptx_instruction i;

	i.line = line;
	if (s[0] == '@') {
		const size_t end = s.find_first_of(" \t");
		i.negated = s[1] == '!';
		i.predicate = find_register(s.substr(i.negated ? 2 : 1, end - (i.negated ? 2 : 1)));
		s = trimmed(s.substr(end));
	}
	const size_t end = s.find_first_of(" \t");
	i.words = split_nonempty(s.substr(0, end), '.');
	i.op = opcode_named(i.words[0]);
	if (i.op == OP_COUNT)
		ptx_die(*entry, &i, "an opcode that is not in the subset");
	parse_suffixes(i);
	if (end != std::string::npos)
		parse_operands(i, s.substr(end));
	entry->code.push_back(i);
}

void parser::end_statement()
{
	const std::string s = trimmed(statement);
	const bool shared = s.find(".shared") != std::string::npos;

	statement.clear();
	if (s.empty())
		return;
	if (!entry || scopes.empty()) {
		if (shared)
			module_shared.push_back(s);
	} else if (s[0] != '.') {
		parse_instruction(s);
	} else if (s.compare(0, 4, ".reg") == 0) {
		declare_registers(s);
	} else if (s.compare(0, 7, ".shared") == 0 || s.compare(0, 6, ".local") == 0) {
		declare_memory(*entry, s);
	}
}

void parser::begin_entry()
{
	const std::string name = split(trimmed(statement), ' ').back();

	entry = &entries[name];
	entry->name = name;
	entry->file = file;
	in_parameters = true;
	statement.clear();
}

void parser::close_brace()
{
	end_statement();
	scopes.pop_back();
	if (scopes.empty())
		entry = nullptr;
}

void parser::character(const std::string &text, size_t at)
{
	const char c = text[at];
	const bool blank = trimmed(statement).empty();

	if (in_parameters && (c == ',' || c == ')')) {
		declare_parameter();
		in_parameters = c == ',';
	} else if (c == '(' && scopes.empty() && statement.find(".entry") != std::string::npos) {
		begin_entry();
	} else if (c == '{' && (blank || scopes.empty())) {     // not the { of a vector operand
		scopes.emplace_back();
		statement.clear();
	} else if (c == '}' && statement.find('{') == std::string::npos) {
		close_brace();
	} else if (c == ':' && entry && text[at + 1] != ':' && text[at - 1] != ':') {
		entry->labels[trimmed(statement)] = (int)entry->code.size();
		statement.clear();
	} else if (c == ';') {
		end_statement();
	} else {
		statement += isspace((unsigned char)c) ? ' ' : c;
	}
}

void parser::finish()
{
	for (auto &named : entries) {
		ptx_entry &e = named.second;
		if (e.file != file)
			continue;
		for (const std::string &s : module_shared)
			declare_memory(e, s);
		for (ptx_instruction &i : e.code) {
			if (i.op != OP_BRA)
				continue;
			auto label = e.labels.find(i.operands[0].symbol);
			if (label == e.labels.end())
				ptx_die(e, &i, "no such label");
			i.target = label->second;
		}
	}
}

void parser::read(const std::string &text)
{
	for (size_t at = 0; at < text.size(); at++) {
		if (text[at] == '\n')
			line++;
		if (text.compare(at, 2, "//") != 0) {
			character(text, at);
			continue;
		}
		at = std::min(text.find('\n', at), text.size());
		line++;
		statement += ' ';
	}
	finish();
}

static std::string read_file(const std::string &path)
{
	FILE *f = fopen(path.c_str(), "rb");
	std::string text;
	char part[65536];
	size_t n;

	if (!f)
		die("cannot open '%s' of CUSIM_PTX", path.c_str());
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		text.append(part, n);
	fclose(f);
	return text;
}

static std::map<std::string, ptx_entry> read_all()
{
	std::map<std::string, ptx_entry> entries;

	for (const std::string &path : split_nonempty(set().ptx, ':'))
		parser(entries, path).read(read_file(path));
	return entries;
}

const ptx_entry &ptx_find(const char *name)
{
	static const std::map<std::string, ptx_entry> entries = read_all();
	auto at = entries.find(name);

	if (at == entries.end())
		die("no entry %s in %s", name, set().ptx);
	return at->second;
}

} // namespace cusim
