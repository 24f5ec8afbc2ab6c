/* topk's three passes over the same contexts: maxima and firings, examples, effects. */
#include "topk.h"

#include <stdlib.h>

#include "pool.h"
#include "prog.h"

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- a batch of contexts ---- */

static void read_context(void *arg, size_t b)
{
	struct run *r = arg;
	const size_t T = r->tok.T;

	windows_read(&r->tok, rows_window(&r->rows, r->skip + r->next + b), r->idx + b * T, r->targets + b * T);
}

static void read_contexts(struct run *r)
{
	pool_for(r->n, read_context, r);
}

static struct gpt_hook forward(struct run *r)
{
	read_contexts(r);
	return gpt_forward_hook(r->g, r->idx, r->n, r->tok.T);
}

/* What is active in it, and its effects on logits */
static struct active *encode(struct run *r)
{
	const struct gpt_hook h = forward(r);
	const size_t rows = r->n * r->tok.T;
	struct sae_found *p = &r->found;

	sae_find_active(r->s, h.acts, rows);
	attrib_residual(r->a, &h, rows);
	sae_get_active(r->s, p);
	r->effect = xrealloc(r->effect, p->cap, sizeof(*r->effect));
	attrib_logit_active(r->a, &r->s->active, r->targets, rows, r->effect);
	struct active *a = active_new(r->shape.F, p->n);

	active_fill(a, p->rows, p->feats, p->f, r->effect, p->n);
	return a;
}

/* Keeps what the first pass found or, once memory is full, forgets it. */
static void keep(struct run *r, struct active *a)
{
	r->full = r->full || r->kept_bytes + active_bytes(a) > r->memory;
	if (r->full) {
		active_free(a);
		return;
	}
	if (!r->n_kept)
		r->kept_from = r->next;
	r->kept = xrealloc(r->kept, r->n_kept + 1, sizeof(struct active *));
	r->kept[r->n_kept++] = a;
	r->kept_bytes += active_bytes(a);
}

static void scan(struct run *r)
{
	struct active *a = encode(r);

	examples_scan(r->x, a);
	firings_scan(r->fired, a, r->next * r->tok.T);
	keep(r, a);
}

static void pick(struct run *r)
{
	const size_t i = (r->next - r->kept_from) / r->batch;
	const bool known = r->next >= r->kept_from && i < r->n_kept;
	const size_t T = r->tok.T;
	const uint64_t first = r->next * T;
	struct active *a = known ? r->kept[i] : encode(r);

	if (known) {
		read_contexts(r);
		r->kept[i] = NULL;
	}
	examples_pick(r->x, a, T, first);
	firings_gather(r->fired, a, r->idx, r->n * T, T, first);
	active_free(a);
}

static void show(struct run *r)
{
	const size_t T = r->tok.T, rows = r->n * T;
	const uint64_t first = r->next * T;

	if (!show_wants(r->w, first, rows))
		return;
	const struct gpt_hook h = forward(r);

	attrib_residual(r->a, &h, rows);
	show_block(r->w, r->idx, r->targets, r->n, T, first);
}

static void one_batch(struct run *r)
{
	static void (*const of_pass[PASSES])(struct run *r) = { scan, pick, show };

	r->n = min64(r->batch, r->contexts - r->next);
	of_pass[r->pass](r);
	r->next += r->n;
	prog_step(r->n);
}

/* ---- where the run is ---- */

static void save(const struct run *r, const struct recipe *p)
{
	const uint64_t head[2] = { r->pass, r->next };
	struct buf st = { 0 };

	buf_add(&st, head, sizeof(head));
	examples_save(r->x, &st);
	firings_save(r->fired, &st);
	if (r->pass == SHOW)
		show_save(r->w, &st);
	state_save(r->output, p, &st);
	buf_free(&st);
}

static void resume(struct run *r, const struct recipe *p)
{
	struct buf st = { 0 };
	uint64_t head[2];

	if (!state_load(r->output, p, &st))
		return;
	struct cursor c = { st.p, st.n };

	cursor_get(&c, head, sizeof(head));
	examples_load(r->x, &c);
	firings_load(r->fired, &c);
	r->pass = head[0];
	r->next = head[1];
	if (r->pass == SHOW) {
		r->w = show_new(r->x, r->a);
		show_load(r->w, &c, r->next * r->tok.T);
	}
	buf_free(&st);
	say("going on at context %llu of pass %llu", (unsigned long long)r->next, (unsigned long long)r->pass + 1);
}

static void begin_pass(struct run *r)
{
	static const char *const notes[PASSES] = { "maxima", "examples", "effects" };

	if (r->pass == PICK && !r->fired->sealed)
		firings_seal(r->fired);
	if (r->pass == SHOW && !r->w) {
		examples_finish(r->x);
		r->w = show_new(r->x, r->a);
	}
	prog_note("%s", notes[r->pass]);
}

void passes_run(struct run *r, const struct recipe *p)
{
	resume(r, p);
	r->saved = now_secs();
	prog_start("context passes", PASSES * r->contexts - r->pass * r->contexts - r->next);
	for (; r->pass < PASSES; r->pass++, r->next = 0) {
		begin_pass(r);
		while (r->next < r->contexts) {
			one_batch(r);
			if (now_secs() - r->saved < r->save_every)
				continue;
			save(r, p);
			r->saved = now_secs();
		}
	}
}

/* ---- nets and memory ---- */

void passes_start(struct run *r, const char *device, const char *precision)
{
	const struct backend *be = backend_open(device, precision);
	const size_t rows = xmul(r->batch, r->tok.T);

	models_load(&r->m, be, r->batch, rows, &r->g, &r->s);
	r->x = examples_new(&r->shape, r->seed);
	r->fired = firings_new(r->shape.F, r->shape.P, r->seed, FIRINGS_LIMIT);
	r->a = attrib_new(r->g, r->s, rows);
	r->idx = xcalloc(rows, sizeof(*r->idx));
	r->targets = xcalloc(rows, sizeof(*r->targets));
}

void passes_end(struct run *r)
{
	free(r->idx);
	free(r->targets);
	sae_found_free(&r->found);
	free(r->effect);
	for (size_t i = 0; i < r->n_kept; i++)
		active_free(r->kept[i]);
	free(r->kept);
	show_free(r->w);
	attrib_free(r->a);
	firings_free(r->fired);
	examples_free(r->x);
	sae_free(r->s);
	gpt_free(r->g);
}
