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
	const struct top_shape s = { .F = 7, .K = 3, .I = 4, .M = 2, .R = 5, .RT = 9, .H = 50, .L = 6,
		.N = 8, .A = 4, .B = 5, .P = 100 };
	const size_t E = 3 + 4 * 2, cells = 3 * 19 + 4 * 2 * 11;

	check_field(&s, TOP_ACTIVE, "d/top/active.u32.zst", 7, 1);
	check_field(&s, TOP_MAX, "d/top/max.f32.zst", 7, 1);
	check_field(&s, TOP_MEAN, "d/top/mean.f32.zst", 7, 1);
	check_field(&s, TOP_HIST, "d/top/hist.u32.zst", 7, 50);
	check_field(&s, TOP_INTERVAL, "d/top/interval.u32.zst", 7, 4);
	check_field(&s, TOP_CENTRE, "d/top/centre.u32.zst", 7 * E, 1);
	check_field(&s, TOP_TOKENS, "d/top/tokens.u16.zst", 7, cells);
	check_field(&s, TOP_ACTS, "d/top/acts.f32.zst", 7, cells);
	check_field(&s, TOP_EFFECTS, "d/top/effects.f32.zst", 7, cells);
	check_field(&s, TOP_LOGIT_EFFECTS, "d/top/logit_effects.f32.zst", 7, cells);
	check_field(&s, TOP_LOGIT_EFFECT, "d/top/logit_effect.f32.zst", 7, 2);
	check_field(&s, TOP_LOGIT_IDS, "d/top/logit_ids.u16.zst", 7, 12);
	check_field(&s, TOP_LOGITS, "d/top/logits.f32.zst", 7, 12);
	check_field(&s, TOP_LOGIT_RANGE, "d/top/logit_range.f32.zst", 7, 2);
	check_field(&s, TOP_LOGIT_HIST, "d/top/logit_hist.u32.zst", 7, 50);
	check_field(&s, TOP_NEAR, "d/top/near.u32.zst", 7, 8);
	check_field(&s, TOP_NEAR_COS, "d/top/near_cos.f32.zst", 7, 8);
	check_field(&s, TOP_TOGETHER, "d/top/together.u32.zst", 7, 8);
	check_field(&s, TOP_TOGETHER_SHARE, "d/top/together_share.f32.zst", 7, 8);
	check_field(&s, TOP_SAMPLED, "d/top/sampled.u32.zst", 7, 1);
	check_field(&s, TOP_ALIGN, "d/top/align.u32.zst", 7, 4);
	check_field(&s, TOP_ALIGN_VALUE, "d/top/align_value.f32.zst", 7, 4);
	check_field(&s, TOP_ALIGN_L1, "d/top/align_l1.f32.zst", 7, 1);
	check_field(&s, TOP_BEFORE, "d/top/before.u16.zst", 7, 5);
	check_field(&s, TOP_BEFORE_COUNT, "d/top/before_count.u32.zst", 7, 5);
	check_field(&s, TOP_ON, "d/top/on.u16.zst", 7, 5);
	check_field(&s, TOP_ON_COUNT, "d/top/on_count.u32.zst", 7, 5);
	check_field(&s, TOP_AFTER, "d/top/after.u16.zst", 7, 5);
	check_field(&s, TOP_AFTER_COUNT, "d/top/after_count.u32.zst", 7, 5);
	check(top_examples(&s) == E && top_cells(&s) == cells, "examples and their cells");

	bool tiled = true;
	size_t at = 0;

	for (size_t e = 0; e < E; e++) {
		const struct top_window w = top_window(&s, e);

		tiled = tiled && w.at == at && w.width == (e < 3 ? 19 : 11);
		at += w.width;
	}
	check(tiled && at == cells, "windows lie one behind another, the strongest wide");
	return check_done();
}
