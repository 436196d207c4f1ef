/* The choice of instruction set, and the public functions: each looks up its kernel and calls it. */
#include "minigrad.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "pool.h"
#include "table.h"

struct isa {
    const char *name;
    int (*runs)(void);
    const struct mg_table *tables[2]; /* by dtype */
};

static int always(void) { return 1; }

#ifdef __x86_64__
/* The compiler's own check knows both the processor and whether the system saves the wide registers. */
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif

/* Best first. */
static const struct isa known[] = {
#ifdef __x86_64__
    {"avx512", has_avx512, {&mg_table_avx512_f32, &mg_table_avx512_f64}},
    {"avx2", has_avx2, {&mg_table_avx2_f32, &mg_table_avx2_f64}},
#endif
#ifdef __aarch64__
    {"neon", always, {&mg_table_neon_f32, &mg_table_neon_f64}},
#endif
    {"generic", always, {&mg_table_generic_f32, &mg_table_generic_f64}},
};
enum { KNOWN = sizeof known / sizeof known[0] };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char names[64];
static _Atomic(const struct isa *) current;

static void look_around(void)
{
    const struct isa *best = NULL;
    for (int i = 0; i < KNOWN; i++) {
        if (!known[i].runs()) continue;
        if (best) strcat(names, " ");
        else best = &known[i];
        strcat(names, known[i].name);
    }
    atomic_store(&current, best);
}

static const struct isa *in_use(void)
{
    const struct isa *isa = atomic_load_explicit(&current, memory_order_acquire);
    if (isa) return isa;
    pthread_once(&once, look_around);
    return atomic_load(&current);
}

static const struct mg_table *table(int dtype) { return in_use()->tables[dtype]; }

const char *mg_isa(void) { return in_use()->name; }

const char *mg_isas(void)
{
    pthread_once(&once, look_around);
    return names;
}

int mg_set_isa(const char *name)
{
    pthread_once(&once, look_around);
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(known[i].name, name) == 0 && known[i].runs()) {
            atomic_store(&current, &known[i]);
            return 0;
        }
    return -1;
}

/* The most that any instruction set asks for, so that memory taken before a change of it is enough after. */
#define RETURN_MOST(dtype, call)                          \
    do {                                                  \
        int64_t most = 0;                                 \
        for (int i = 0; i < KNOWN; i++) {                 \
            int64_t bytes = known[i].tables[dtype]->call; \
            if (bytes > most) most = bytes;               \
        }                                                 \
        return most;                                      \
    } while (0)

void mg_unary(int dtype, int op, int64_t n, const void *x, void *out) { table(dtype)->unary(op, n, x, out); }

void mg_rule(int dtype, int op, int64_t n, const void *g, const void *y, void *dx)
{
    table(dtype)->rule(op, n, g, y, dx);
}

int64_t mg_gemm_scratch(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k)
{
    RETURN_MOST(dtype, gemm_scratch(m, n, blocks, k));
}

void mg_gemm(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k,
             const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
             const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
             const void *start, int64_t start_row, int64_t start_col,
             void *out, int64_t out_row, void *scratch) {
    table(dtype)->gemm(m, n, blocks, k, a, a_row, a_block, a_k, b, b_block, b_k, b_col,
                       start, start_row, start_col, out, out_row, scratch);
}

int64_t mg_recurrent_scratch(int dtype, int cell, int64_t T, int64_t N, int64_t I, int64_t H)
{
    RETURN_MOST(dtype, recurrent_scratch(cell, T, N, I, H));
}

void mg_recurrent_forward(int dtype, int cell, int64_t T, int64_t N, int64_t I, int64_t H,
                          const void *x, const void *w, const void *u, const void *v,
                          const void *b_x, const void *b_h, const void *b_v, const void *p,
                          const void *h0, const void *c0, const int64_t *lengths,
                          void *y, void *h_last, void *c_last, void *saved, void *scratch)
{
    table(dtype)->recurrent_forward(cell, T, N, I, H, x, w, u, v, b_x, b_h, b_v, p, h0, c0, lengths,
                                    y, h_last, c_last, saved, scratch);
}

void mg_recurrent_backward(int dtype, int cell, int64_t T, int64_t N, int64_t H,
                           const void *u, const void *v, const void *p,
                           const void *h0, const void *c0, const int64_t *lengths,
                           const void *y, const void *saved,
                           const void *dy, const void *dh_last, const void *dc_last,
                           void *dz, void *dz_h, void *dh0, void *dc0, void *scratch)
{
    table(dtype)->recurrent_backward(cell, T, N, H, u, v, p, h0, c0, lengths, y, saved, dy, dh_last, dc_last,
                                     dz, dz_h, dh0, dc0, scratch);
}

void mg_scatter_rows(int dtype, int64_t n, int64_t width, const int64_t *index, const void *g, void *out)
{
    table(dtype)->scatter_rows(n, width, index, g, out);
}
