// CUSIM_COUNT=file: what a run did, one line for each call, kernel, product and kind of copy, so that the
// bytes and FLOPs of a step can be added up, with CUSIM_DRY=1 at any size.
#include "emulator.h"

#include <stdlib.h>

#include <map>

namespace cusim {

typedef std::map<std::pair<std::string, std::string>, traffic_sum> tally_map;

static void print_line(FILE *out, const std::string &kind, const std::string &name, const traffic_sum &s)
{
	fprintf(out, "%s\t%s\t%llu\t%llu\t%llu\t%llu\t%llu\t%llu\t%llu\n", kind.c_str(), name.c_str(),
		s.launches, s.threads, s.flops, s.read, s.written, s.touched_read, s.touched_written);
}

static tally_map &sums();

static void write_tally()
{
	FILE *out = fopen(set().count, "w");

	if (!out)
		die("cannot write the tally to %s", set().count);
	fprintf(out, "kind\tname\tlaunches\tthreads\tflops\tread\twritten\ttouched-read\ttouched-written\n");
	for (const auto &line : sums())
		print_line(out, line.first.first, line.first.second, line.second);
	traffic_sum calls = {};
	calls.launches = calls_counted();
	print_line(out, "calls", "that may fail", calls);
	if (fclose(out))
		die("cannot write the tally to %s", set().count);
}

static tally_map &sums()
{
	static tally_map &all = *new tally_map; // never destroyed: exit handlers may still launch
	static const bool at_exit = set().count && !atexit(write_tally);

	(void)at_exit;
	return all;
}

traffic_sum &tally(const char *kind, const std::string &name)
{
	return sums()[{ kind, name }];
}

void tally_launch(const kernel_launch &l)
{
	traffic_sum &sum = tally("kernel", l.name);

	sum.launches++;
	sum.threads += (u64)l.grid.x * l.grid.y * l.grid.z * l.block.x * l.block.y * l.block.z;
}

} // namespace cusim
