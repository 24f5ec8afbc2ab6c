/* top: shapes and names of the fields of topk's directory */
#include "top.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

static void check_field(const struct top_shape *s, enum top_name which, const char *path,
			size_t rows, size_t cols)
{
	const struct top_field f = top_field(s, which);
	char *got = top_path("d/top", &f);

	check(!strcmp(got, path), "%s", path);
	check(f.rows == rows && f.cols == cols, "%s: %zu x %zu", f.name, rows, cols);
	free(got);
}

int main(void)
{
	const struct top_shape s = { .F = 7, .K = 3, .I = 4, .M = 2, .R = 5, .H = 50, .L = 6 };
	const size_t E = 7 * (3 + 4 * 2);

	check_field(&s, TOP_ACTIVE, "d/top/active.u32.zst", 7, 1);
	check_field(&s, TOP_MAX, "d/top/max.f32.zst", 7, 1);
	check_field(&s, TOP_MEAN, "d/top/mean.f32.zst", 7, 1);
	check_field(&s, TOP_HIST, "d/top/hist.u32.zst", 7, 50);
	check_field(&s, TOP_INTERVAL, "d/top/interval.u32.zst", 7, 4);
	check_field(&s, TOP_CENTRE, "d/top/centre.u32.zst", E, 1);
	check_field(&s, TOP_TOKENS, "d/top/tokens.u16.zst", E, 11);
	check_field(&s, TOP_ACTS, "d/top/acts.f32.zst", E, 11);
	check_field(&s, TOP_EFFECTS, "d/top/effects.f32.zst", E, 11);
	check_field(&s, TOP_LOGIT_EFFECTS, "d/top/logit_effects.f32.zst", E, 11);
	check_field(&s, TOP_LOGIT_EFFECT, "d/top/logit_effect.f32.zst", 7, 2);
	check_field(&s, TOP_LOGIT_IDS, "d/top/logit_ids.u16.zst", 7, 12);
	check_field(&s, TOP_LOGITS, "d/top/logits.f32.zst", 7, 12);
	check_field(&s, TOP_LOGIT_RANGE, "d/top/logit_range.f32.zst", 7, 2);
	check_field(&s, TOP_LOGIT_HIST, "d/top/logit_hist.u32.zst", 7, 50);
	return check_done();
}
