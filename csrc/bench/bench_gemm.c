/* Speed of mg_gemm: GFLOP/s, and percent of what a loop of nothing but FMAs reaches; for each shape the best of
 * many short runs. Behind it the same for other libraries, and mg_gemm's speed over theirs: a BLAS, or another
 * build of minigrad, both checked against the result of this one. All take turns, so that what disturbs the machine
 * disturbs all; one thread is timed by its own clock, which stands while another program runs.
 *
 *   bench_gemm [f64] [isa] [threads] [square | sequence | few | TN,m,n,blocks,k ...] [/path/to/library.so ...]
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "minigrad.h"

static int dtype = MG_F32, threads = 1;

static double now(void)
{
    struct timespec t;
    clock_gettime(threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t size(void) { return dtype == MG_F32 ? 4 : 8; }

/* --- the peak --- */

/* Chains of FMAs in registers, enough to hide their latency. */
#define PEAK(name, attributes, type, bytes)                                                        \
    attributes static double name(int64_t n)                                                       \
    {                                                                                              \
        typedef type vec __attribute__((vector_size(bytes)));                                      \
        vec x = {0}, y = {0}, sum[12] = {{0}};                                                     \
        __asm__("" : "+m"(x), "+m"(y));                                                            \
        for (; n > 0; n--)                                                                         \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) sum[i] = x * y + sum[i];         \
        for (int i = 1; i < 12; i++) sum[0] += sum[i];                                             \
        __asm__ volatile("" : : "m"(sum[0]));                                                      \
        return 2.0 * 12 * (bytes) / sizeof(type);                                                  \
    }
#define WITH(...) __attribute__((noinline, optimize("fp-contract=fast"), ##__VA_ARGS__))
#ifdef __x86_64__
PEAK(peak_avx512_f32, WITH(target("avx512f")), float, 64)
PEAK(peak_avx512_f64, WITH(target("avx512f")), double, 64)
PEAK(peak_avx2_f32, WITH(target("avx2,fma")), float, 32)
PEAK(peak_avx2_f64, WITH(target("avx2,fma")), double, 32)
#endif
PEAK(peak_plain_f32, WITH(), float, 16)
PEAK(peak_plain_f64, WITH(), double, 16)

static double peak(void)
{
    double (*run)(int64_t) = dtype == MG_F32 ? peak_plain_f32 : peak_plain_f64, best = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) run = dtype == MG_F32 ? peak_avx512_f32 : peak_avx512_f64;
    else if (__builtin_cpu_supports("avx2")) run = dtype == MG_F32 ? peak_avx2_f32 : peak_avx2_f64;
#endif
    for (int i = 0; i < 200; i++) {
        const double t0 = now(), flops = run(20000) * 20000, t = now() - t0;
        if (flops / t > best) best = flops / t;
    }
    return best * 1e-9;
}

/* --- the products --- */

typedef int64_t (*scratch_fn)(int, int64_t, int64_t, int64_t, int64_t);
typedef void (*gemm_fn)(int, int64_t, int64_t, int64_t, int64_t, const void *, int64_t, int64_t, int64_t,
                        const void *, int64_t, int64_t, int64_t, const void *, int64_t, int64_t,
                        void *, int64_t, void *);
typedef void (*sgemm_fn)(int, int, int, int64_t, int64_t, int64_t, float, const void *, int64_t,
                         const void *, int64_t, float, void *, int64_t);
typedef void (*dgemm_fn)(int, int, int, int64_t, int64_t, int64_t, double, const void *, int64_t,
                         const void *, int64_t, double, void *, int64_t);

static struct library {
    const char *name;
    scratch_fn scratch;
    gemm_fn gemm;
    void (*set_threads)(int);
    sgemm_fn sgemm; /* of a BLAS, with indices of 32 or 64 bits: small ones are passed alike */
    dgemm_fn dgemm;
} libraries[8];
static int n_libraries;

static void *symbol(void *library, const char *const *names)
{
    void *found = NULL;
    for (; *names && !found; names++) found = dlsym(library, *names);
    return found;
}

static int load(const char *path)
{
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!file || n_libraries == 8) return 0;
    const char *slash = strrchr(path, '/');
    struct library *l = &libraries[n_libraries++];
    l->name = slash ? slash + 1 : path;
    *(void **)&l->scratch = dlsym(file, "mg_gemm_scratch");
    *(void **)&l->gemm = dlsym(file, "mg_gemm");
    *(void **)&l->sgemm = symbol(file, (const char *const[]){"cblas_sgemm", "scipy_cblas_sgemm64_", NULL});
    *(void **)&l->dgemm = symbol(file, (const char *const[]){"cblas_dgemm", "scipy_cblas_dgemm64_", NULL});
    *(void **)&l->set_threads = symbol(file, (const char *const[]){
        "mg_set_threads", "openblas_set_num_threads", "scipy_openblas_set_num_threads64_", NULL});
    return l->gemm || (l->sgemm && l->dgemm);
}

/* out [m][n] = a b with b [k][n] (layout NN, TN) or [n][k] (NT), a [m][k] or [k][m] (TN); the k steps lie in
 * `blocks`, the last of which comes first. */
struct shape { int64_t m, n, blocks, k; const char *layout; };
struct arrays { char *a, *b, *out, *scratch; };

static void multiply(const struct library *l, const struct shape *s, const struct arrays *x)
{
    const int64_t m = s->m, n = s->n, k = s->k, q = s->blocks;
    const int ta = s->layout[0] == 'T', tb = s->layout[1] == 'T';
    if (l->gemm) {
        const int64_t a_k = ta ? m : 1, b_k = tb ? 1 : n;
        l->gemm(dtype, m, n, q, k, x->a + (q - 1) * k * a_k * size(), ta ? 1 : q * k, -k * a_k, a_k,
                x->b + (q - 1) * k * b_k * size(), -k * b_k, b_k, tb ? q * k : 1, NULL, 0, 0,
                x->out, n, x->scratch);
    } else if (dtype == MG_F32) {
        l->sgemm(101, ta ? 112 : 111, tb ? 112 : 111, m, n, q * k, 1, x->a, ta ? m : q * k,
                 x->b, tb ? q * k : n, 0, x->out, n);
    } else {
        l->dgemm(101, ta ? 112 : 111, tb ? 112 : 111, m, n, q * k, 1, x->a, ta ? m : q * k,
                 x->b, tb ? q * k : n, 0, x->out, n);
    }
}

static char *array(int64_t n)
{
    char *p = aligned_alloc(64, (size_t)(n * size() + 127) / 64 * 64);
    for (int64_t i = 0; i < n; i++) {
        double x = (double)(i * 7919 % 1000) / 5000 - 0.1;
        if (dtype == MG_F32) ((float *)p)[i] = (float)x;
        else ((double *)p)[i] = x;
    }
    return p;
}

static double get(const char *p, int64_t i)
{
    return dtype == MG_F32 ? ((const float *)p)[i] : ((const double *)p)[i];
}

static void check(const struct shape *s, const char *got, const char *want, int exact)
{
    for (int64_t i = 0; i < s->m * s->n; i++) {
        const double x = get(got, i), y = get(want, i);
        if (exact ? x != y : !(fabs(x - y) <= (dtype == MG_F32 ? 1e-5 : 1e-13) * (double)(s->k * s->blocks)))
            printf("element %d is %.9g, not %.9g\n", (int)i, y, x), exit(1);
    }
}

static void bench(struct shape s, double top)
{
    const int64_t sum = s.blocks * s.k;
    int64_t bytes = 0;
    for (int i = 0; i < n_libraries; i++) {
        int64_t need = libraries[i].scratch ? libraries[i].scratch(dtype, s.m, s.n, s.blocks, s.k) : 0;
        if (need > bytes) bytes = need;
    }
    struct arrays x = {array(s.m * sum), array(sum * s.n), array(s.m * s.n), malloc((size_t)bytes)};
    char *want = array(s.m * s.n);
    const double flops = 2.0 * (double)(s.m * s.n) * (double)sum;
    double best[8];
    for (int i = 0; i < n_libraries; i++) {
        best[i] = 1e9;
        multiply(&libraries[i], &s, &x);
        if (i == 0) memcpy(want, x.out, (size_t)(s.m * s.n * size()));
        check(&s, x.out, want, libraries[i].gemm != NULL);
    }
    const int calls = 1 + (int)(1e7 / flops); /* in one run, of which the clock should see 10 microseconds */
    const double start = now();
    for (int run = 0; run < 5 || now() - start < 0.05 * n_libraries; run++)
        for (int i = 0; i < n_libraries; i++) {
            multiply(&libraries[i], &s, &x);
            const double t0 = now();
            for (int c = 0; c < calls; c++) multiply(&libraries[i], &s, &x);
            const double t = (now() - t0) / calls;
            if (t < best[i]) best[i] = t;
        }
    printf("%s %.2s  m %4d  n %4d  k %4d", dtype == MG_F32 ? "f32" : "f64", s.layout, (int)s.m, (int)s.n, (int)s.k);
    if (s.blocks > 1) printf(" x %3d", (int)s.blocks);
    else printf("      ");
    printf("  %6.1f  %3.0f %%", flops / best[0] * 1e-9, flops / best[0] * 1e-7 / top);
    for (int i = 1; i < n_libraries; i++) printf("   %6.1f %5.2f", flops / best[i] * 1e-9, best[i] / best[0]);
    printf("\n");
    fflush(stdout);
    free(x.a), free(x.b), free(x.out), free(x.scratch), free(want);
}

/* The shapes of a set, or of all. */
static void bench_set(const char *set, double top)
{
    static const char *const layouts[] = {"NN", "NT", "TN"};
    static const int64_t squares[] = {64, 128, 192, 256, 384, 512, 768, 1000, 1024};
    static const int64_t rows[] = {1, 2, 3, 4, 6, 8, 16, 32, 64};
    static const int64_t weights[][2] = {{32, 128},   {128, 32},   {128, 512},  {256, 256},
                                         {256, 1024}, {1024, 256}, {1024, 1024}};
    static const struct shape sequences[] = {
        {128, 32, 50, 32, "TN"},    {512, 64, 200, 8, "TN"},    {512, 128, 100, 16, "TN"}, {768, 192, 35, 20, "TN"},
        {1024, 128, 50, 64, "TN"},  {1024, 256, 50, 64, "TN"},  {1024, 256, 100, 32, "TN"}, /* of weights */
        {3200, 256, 1, 1024, "NN"}, {1600, 64, 1, 512, "NN"},                               /* of inputs */
        {3200, 1024, 1, 256, "NT"}, {1600, 512, 1, 64, "NT"}};                              /* projections */
    for (size_t l = 0; l < 3 && (!set || strcmp(set, "square") == 0); l++)
        for (size_t i = 0; i < sizeof squares / sizeof *squares; i++)
            bench((struct shape){squares[i], squares[i], 1, squares[i], layouts[l]}, top);
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences && (!set || strcmp(set, "sequence") == 0); i++)
        bench(sequences[i], top);
    for (size_t l = 0; l < 2 && (!set || strcmp(set, "few") == 0); l++)
        for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
            for (size_t j = 0; j < sizeof rows / sizeof *rows; j++)
                bench((struct shape){rows[j], weights[i][1], 1, weights[i][0], layouts[l]}, top);
}

int main(int argc, char **argv)
{
    const char *set = NULL;
    struct shape own[16];
    int n_own = 0;
    libraries[n_libraries++] = (struct library){.scratch = mg_gemm_scratch, .gemm = mg_gemm};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        int m, n, q, k;
        if (sscanf(word, "%*2[NT],%d,%d,%d,%d", &m, &n, &q, &k) == 4 && n_own < 16)
            own[n_own++] = (struct shape){m, n, q, k, word};
        else if (!strcmp(word, "square") || !strcmp(word, "sequence") || !strcmp(word, "few")) set = word;
        else if (strcmp(word, "f64") == 0) dtype = MG_F64;
        else if (atoi(word) > 0) threads = atoi(word);
        else if (strchr(word, '/') && !load(word)) return printf("%s: %s\n", word, dlerror()), 1;
        else if (!strchr(word, '/') && mg_set_isa(word) != 0)
            return printf("no such instruction set here: %s\n", word), 1;
    }
    mg_set_threads(threads);
    libraries[0].name = mg_isa();
    const double top = peak() * threads;
    printf("peak %.1f GFLOP/s;", top);
    for (int i = 0; i < n_libraries; i++) {
        printf(" %s", libraries[i].name);
        if (libraries[i].set_threads) libraries[i].set_threads(threads);
    }
    printf("\n");
    for (int i = 0; i < n_own; i++) bench(own[i], top);
    if (n_own == 0) bench_set(set, top);
    return 0;
}
