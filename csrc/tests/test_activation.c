/* exp, log, tanh, sigmoid, softplus, erf: accuracy, special values, symmetry, the same bits on every
 * instruction set and at every place in an array.
 *
 *   test_activation                        a sample of both dtypes, about a second
 *   test_activation many                   the same with 32 times as many doubles
 *   test_activation full [tanh [avx512]]   all 2^32 floats; for one function, on one instruction set if named
 *
 * float is measured against the C library in double, double against its long double. Every line ends in ok or
 * FAILED; the exit status is 1 when one failed. */
#define _DEFAULT_SOURCE             /* MAP_ANONYMOUS */
#include "../minigrad.h"
#include "ulp.h"

#include <float.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCK = 4096, MOST_ISAS = 8, FUNCTIONS = 6 };

/* The bounds that kernels/activation.inc.h states, in units in the last place, and the checksums of the
 * sample: constants, because the results are the same on every machine. They change with a coefficient, and
 * then the lines that fail print the new ones. */
static const struct { const char *name; double bound[2]; uint64_t checksum[2]; } functions[FUNCTIONS] = {
    [MG_EXP] = {"exp", {1.0, 1.0}, {0x1cf1aad6e96b304d, 0xae57af541a3d3a50}},
    [MG_LOG] = {"log", {1.0, 1.0}, {0x5027cdbdfece0317, 0x519abd3416b9b8e2}},
    [MG_TANH] = {"tanh", {1.4, 1.4}, {0x1456f277ce8c3245, 0xdb5bf3361769e064}},
    [MG_SIGMOID] = {"sigmoid", {1.8, 1.8}, {0xbac527ecb2bcf115, 0x11eb982a03900086}},
    [MG_SOFTPLUS] = {"softplus", {1.7, 1.7}, {0x3c10f06f7713f3a7, 0x47cafe325cb86cda}},
    [MG_ERF] = {"erf", {1.1, 1.2}, {0xed02858e078347d9, 0x9fd7bdd67b274caf}},
};

/* FNV-1a, taken over the bits of all results. */
#define CHECKSUM_START 0xcbf29ce484222325
#define CHECKSUM_FACTOR 0x100000001b3

static char isa_names[256];
static const char *isas[MOST_ISAS];
static int n_isas, failures;

static void check(int passed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("  %s\n", passed ? "ok" : "FAILED");
    fflush(stdout);
    failures += !passed;
}

static double exact_f32(int op, double x)
{
    switch (op) {
    case MG_EXP: return exp(x);
    case MG_LOG: return log(x);
    case MG_TANH: return tanh(x);
    case MG_SIGMOID: return 1 / (1 + exp(-x));
    case MG_ERF: return erf(x);
    default: return isnan(x) ? x : fmax(x, 0) + log1p(exp(-fabs(x)));
    }
}

static long double exact_f64(int op, long double x)
{
    switch (op) {
    case MG_EXP: return expl(x);
    case MG_LOG: return logl(x);
    case MG_TANH: return tanhl(x);
    case MG_SIGMOID: return 1 / (1 + expl(-x));
    case MG_ERF: return erfl(x);
    default: return isnan(x) ? x : fmaxl(x, 0) + log1pl(expl(-fabsl(x)));
    }
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The bits of a result; every NaN counts as the same. */
static uint64_t bits_of(int dtype, const void *values, int i)
{
    if (dtype == MG_F32) {
        float x = ((const float *)values)[i];
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        return isnan(x) ? 0x7fc00000 : bits;
    }
    double x = ((const double *)values)[i];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return isnan(x) ? 0x7ff8000000000000 : bits;
}

/* What a run over many blocks has found out so far. */
struct findings {
    double worst, worst_x;      /* in units in the last place, and the argument */
    int64_t arguments, unequal;
    uint64_t checksum;
};

/* Measures one block on the first instruction set and demands the same bits of the others. */
static void measure(struct findings *found, int dtype, int op, int n, const void *x)
{
    static double first[BLOCK], other[BLOCK];
    mg_set_isa(isas[0]);
    mg_unary(dtype, op, n, x, first);
    for (int i = 0; i < n; i++) {
        double at = dtype == MG_F32 ? ((const float *)x)[i] : ((const double *)x)[i];
        double error = dtype == MG_F32 ? ulp_error_f32(((float *)first)[i], exact_f32(op, at))
                                       : ulp_error_f64(first[i], exact_f64(op, at));
        if (!(error <= found->worst)) {
            found->worst = error;
            found->worst_x = at;
        }
        found->checksum = (found->checksum ^ bits_of(dtype, first, i)) * CHECKSUM_FACTOR;
    }
    for (int isa = 1; isa < n_isas; isa++) {
        mg_set_isa(isas[isa]);
        mg_unary(dtype, op, n, x, other);
        for (int i = 0; i < n; i++)
            found->unequal += bits_of(dtype, first, i) != bits_of(dtype, other, i);
    }
    found->arguments += n;
}

static void report(const struct findings *found, int dtype, int op, int is_the_sample)
{
    const char *name = functions[op].name, *type = dtype == MG_F32 ? "float32" : "float64";
    double bound = functions[op].bound[dtype];
    if (dtype == MG_F64 && LDBL_MANT_DIG < 64)
        printf("%s %s: no wider type here to measure against\n", type, name);
    else
        check(found->worst <= bound, "%s %-8s at most %.3f ulp (bound %.1f) at %a, %" PRId64 " arguments",
              type, name, found->worst, bound, found->worst_x, found->arguments);
    check(found->unequal == 0, "%s %-8s %" PRId64 " results differ between %d instruction sets", type, name,
          found->unequal, n_isas);
    check(!is_the_sample || found->checksum == functions[op].checksum[dtype], "%s %-8s checksum %016" PRIx64,
          type, name, found->checksum);
}

/* Every stride-th bit pattern; an odd stride makes all low bits occur. */
static void walk_floats(struct findings *found, int op, uint64_t stride)
{
    static float x[BLOCK];
    int n = 0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += stride) {
        x[n++] = float_of((uint32_t)bits);
        if (n == BLOCK) {
            measure(found, MG_F32, op, n, x);
            n = 0;
        }
    }
    measure(found, MG_F32, op, n, x);
}

static uint64_t next_random(uint64_t *state)       /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Random bit patterns, then uniform numbers of the intervals in which something happens; the last three are
 * where sigmoid and softplus, tanh, log err most; erf does just below 1. */
static void walk_doubles(struct findings *found, int op, int per_interval)
{
    static const double intervals[][2] = {{-1, 1}, {-20, 20}, {0.5, 2}, {-750, 710}, {-746, -700}, {-40, 0},
                                          {0, 100}, {-1.3, -1.05}, {0.17, 0.2}, {0.7, 0.78}};
    static double x[BLOCK];
    uint64_t state = 1;
    for (int set = -1; set < (int)(sizeof intervals / sizeof *intervals); set++)
        for (int done = 0; done < per_interval; done += BLOCK) {
            for (int i = 0; i < BLOCK; i++) {
                uint64_t bits = next_random(&state);
                double unit = (double)(bits >> 11) * 0x1p-53;
                x[i] = set < 0 ? double_of(bits)
                               : intervals[set][0] + unit * (intervals[set][1] - intervals[set][0]);
            }
            measure(found, MG_F64, op, BLOCK, x);
        }
}

/* 64 neighbours on either side, of either sign, of the numbers at which a branch, a clamp or a reduction
 * turns. */
static void walk_neighbours(struct findings *found, int dtype, int op)
{
    static const double turns[] = {
        0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5,                                     /* mantissas of log */
        0.34657359027997264, 0.69314718055994531, 1.0397207708399179,           /* whole n of exp */
        9.01, 10, 16.7, 20, 19.06, 36.7, 40,                                    /* saturation */
        87.33654475, 88.3762626647949, 88.72283905206835, 89, 103.97207708, 104,  /* float: denormal, 0 */
        708.39641853226408, 709.08956571282405, 709.782712893384, 710,          /* double */
        744.44007192138126, 745.13321910194122, 746,
        FLT_MIN, FLT_MAX, DBL_MIN, DBL_MAX, INFINITY,
    };
    static double x[BLOCK];
    float *xf = (float *)x;
    for (size_t t = 0; t < sizeof turns / sizeof *turns; t++) {
        int n = 0;
        for (int sign = 0; sign < 2; sign++)
            for (int step = -64; step <= 64; step++, n++) {
                if (dtype == MG_F32) {
                    float turn = (float)turns[t];
                    uint32_t bits;
                    memcpy(&bits, &turn, sizeof bits);
                    xf[n] = float_of((bits + (uint32_t)step) ^ (uint32_t)sign << 31);
                } else {
                    uint64_t bits;
                    memcpy(&bits, &turns[t], sizeof bits);
                    x[n] = double_of((bits + (uint64_t)(int64_t)step) ^ (uint64_t)sign << 63);
                }
            }
        measure(found, dtype, op, n, x);
    }
}

static double apply(int dtype, int op, double x)
{
    float xf = (float)x;
    if (dtype == MG_F32)
        mg_unary(dtype, op, 1, &xf, &xf);
    else
        mg_unary(dtype, op, 1, &x, &x);
    return dtype == MG_F32 ? xf : x;
}

/* Results that are exact by the meaning of the function, compared with the sign of zero. */
static void check_special_values(const char *isa)
{
    static const struct { int op; double x, f32, f64; } table[] = {
        {MG_EXP, 0, 1, 1}, {MG_EXP, -0.0, 1, 1}, {MG_EXP, 0x1p-149, 1, 1}, {MG_EXP, NAN, NAN, NAN},
        {MG_EXP, INFINITY, INFINITY, INFINITY}, {MG_EXP, 1000, INFINITY, INFINITY},
        {MG_EXP, -INFINITY, 0, 0}, {MG_EXP, -1000, 0, 0},
        {MG_EXP, -103.5, 0x1p-149, 0x1.9a733e3852834p-150},
        {MG_LOG, 1, 0, 0}, {MG_LOG, 0, -INFINITY, -INFINITY}, {MG_LOG, -0.0, -INFINITY, -INFINITY},
        {MG_LOG, -1, NAN, NAN}, {MG_LOG, -0x1p-149, NAN, NAN}, {MG_LOG, -INFINITY, NAN, NAN},
        {MG_LOG, INFINITY, INFINITY, INFINITY}, {MG_LOG, NAN, NAN, NAN},
        {MG_LOG, 0x1p-149, -0x1.9d1dap+6, -0x1.9d1d9fccf4770p+6},
        {MG_LOG, 2, 0x1.62e43p-1, 0x1.62e42fefa39efp-1},
        {MG_TANH, 0, 0, 0}, {MG_TANH, -0.0, -0.0, -0.0}, {MG_TANH, 20, 1, 1}, {MG_TANH, -20, -1, -1},
        {MG_TANH, INFINITY, 1, 1}, {MG_TANH, -INFINITY, -1, -1}, {MG_TANH, NAN, NAN, NAN},
        {MG_TANH, 0x1p-149, 0x1p-149, 0x1p-149}, {MG_TANH, -0x1p-130, -0x1p-130, -0x1p-130},
        {MG_SIGMOID, 0, 0.5, 0.5}, {MG_SIGMOID, -0.0, 0.5, 0.5}, {MG_SIGMOID, 100, 1, 1},
        {MG_SIGMOID, INFINITY, 1, 1}, {MG_SIGMOID, -INFINITY, 0, 0}, {MG_SIGMOID, -1000, 0, 0},
        {MG_SIGMOID, NAN, NAN, NAN}, {MG_SIGMOID, -103.5, 0x1p-149, 0x1.9a733e3852834p-150},
        {MG_SOFTPLUS, 0, 0x1.62e43p-1, 0x1.62e42fefa39efp-1}, {MG_SOFTPLUS, 1000, 1000, 1000},
        {MG_SOFTPLUS, INFINITY, INFINITY, INFINITY}, {MG_SOFTPLUS, NAN, NAN, NAN},
        {MG_SOFTPLUS, -INFINITY, 0, 0}, {MG_SOFTPLUS, -1000, 0, 0},
        {MG_SOFTPLUS, -103.5, 0x1p-149, 0x1.9a733e3852834p-150},
        {MG_ERF, 0, 0, 0}, {MG_ERF, -0.0, -0.0, -0.0}, {MG_ERF, 4, 1, 0x1.ffffff7b91176p-1}, {MG_ERF, 6, 1, 1},
        {MG_ERF, INFINITY, 1, 1}, {MG_ERF, -INFINITY, -1, -1}, {MG_ERF, NAN, NAN, NAN},
        {MG_ERF, -1000, -1, -1}, {MG_ERF, 0x1p-149, 0x1p-149, 0x1.20dd750429b6dp-149},
    };
    int rows = (int)(sizeof table / sizeof *table), wrong = 0;
    for (int i = 0; i < rows; i++)
        for (int dtype = MG_F32; dtype <= MG_F64; dtype++) {
            double got = apply(dtype, table[i].op, table[i].x);
            double want = dtype == MG_F32 ? table[i].f32 : table[i].f64;
            if (bits_of(MG_F64, &got, 0) == bits_of(MG_F64, &want, 0))
                continue;
            printf("%s(%a) in %s is %a, expected %a\n", functions[table[i].op].name, table[i].x,
                   dtype == MG_F32 ? "float32" : "float64", got, want);
            wrong++;
        }
    check(wrong == 0, "%s: %d special values, %d wrong", isa, rows, wrong);
}

static void check_oddness(const char *isa, int op)
{
    static float xf[BLOCK], yf[BLOCK], zf[BLOCK];
    static double x[BLOCK], y[BLOCK], z[BLOCK];
    int wrong = 0;
    for (int i = 0; i < BLOCK; i++) {
        xf[i] = float_of((uint32_t)i * 523777u);
        x[i] = double_of((uint64_t)i * 2249600790429697u);
    }
    mg_unary(MG_F32, op, BLOCK, xf, yf);
    mg_unary(MG_F64, op, BLOCK, x, y);
    for (int i = 0; i < BLOCK; i++) {
        xf[i] = -xf[i];
        x[i] = -x[i];
    }
    mg_unary(MG_F32, op, BLOCK, xf, zf);
    mg_unary(MG_F64, op, BLOCK, x, z);
    for (int i = 0; i < BLOCK; i++) {
        zf[i] = -zf[i];
        z[i] = -z[i];
        wrong += bits_of(MG_F32, yf, i) != bits_of(MG_F32, zf, i);
        wrong += bits_of(MG_F64, y, i) != bits_of(MG_F64, z, i);
    }
    const char *name = functions[op].name;
    check(wrong == 0, "%s: %s(-x) = -%s(x) for %d numbers, %d wrong", isa, name, name, 2 * BLOCK, wrong);
}

/* Arrays of 0 ... 70 elements from every alignment, in place and not: the same bits as the block as a
 * whole, and nothing written around them. */
static void check_positions(const char *isa, int dtype)
{
    enum { MOST = 70 };
    size_t size = dtype == MG_F32 ? sizeof(float) : sizeof(double);
    double x[2 * MOST], whole[2 * MOST], out[2 * MOST];
    int wrong = 0;
    for (int i = 0; i < 2 * MOST; i++) {
        if (dtype == MG_F32)
            ((float *)x)[i] = 0.37f * (float)(i - MOST);
        else
            x[i] = 0.37 * (i - MOST);
    }
    for (int op = 0; op < FUNCTIONS; op++) {
        mg_unary(dtype, op, 2 * MOST, x, whole);
        for (int n = 0; n <= MOST; n++)
            for (int from = 0; from < 17; from++)
                for (int in_place = 0; in_place < 2; in_place++) {
                    if (in_place)
                        memcpy(out, x, sizeof out);
                    else
                        memset(out, 0x5a, sizeof out);
                    double before[2 * MOST];
                    memcpy(before, out, sizeof out);
                    const char *in = in_place ? (char *)out : (char *)x;
                    mg_unary(dtype, op, n, in + (size_t)from * size, (char *)out + (size_t)from * size);
                    for (int i = 0; i < 2 * MOST; i++)
                        wrong += bits_of(dtype, out, i)
                                 != bits_of(dtype, i >= from && i < from + n ? whole : before, i);
                }
    }
    check(wrong == 0, "%s: %s arrays of 0 to %d at every offset, %d wrong", isa,
          dtype == MG_F32 ? "float32" : "float64", MOST, wrong);
}

/* The middle one of three pages, the outer two forbidden; NULL when the system grants none. */
static char *fenced_page(size_t page)
{
    char *pages = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    return pages + page;
}

/* Short arrays at both ends of a fenced page: a touch outside ends the program. */
static void check_fences(const char *isa)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = fenced_page(page);
    for (int dtype = MG_F32; memory && dtype <= MG_F64; dtype++)
        for (int op = 0; op < FUNCTIONS; op++)
            for (int n = 0; n <= 40; n++) {
                char *last = memory + page - (size_t)n * (dtype == MG_F32 ? sizeof(float) : sizeof(double));
                mg_unary(dtype, op, n, memory, memory);
                mg_unary(dtype, op, n, last, last);
            }
    check(memory && munmap(memory - page, 3 * page) == 0, "%s: nothing outside the array is touched", isa);
}

static void list_isas(void)
{
    snprintf(isa_names, sizeof isa_names, "%s", mg_isas());
    for (char *name = strtok(isa_names, " "); name && n_isas < MOST_ISAS; name = strtok(NULL, " "))
        isas[n_isas++] = name;
}

static void run_full(const char *function, const char *isa)
{
    if (isa) {
        isas[0] = isa;
        n_isas = 1;
    }
    for (int op = 0; op < FUNCTIONS; op++)
        if (!function || strcmp(function, functions[op].name) == 0) {
            struct findings found = {.checksum = CHECKSUM_START};
            walk_floats(&found, op, 1);
            report(&found, MG_F32, op, 0);
        }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    int many = strcmp(mode, "many") == 0;
    list_isas();
    if (strcmp(mode, "full") == 0) {
        run_full(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);
        return failures > 0;
    }
    for (int op = 0; op < FUNCTIONS; op++) {
        struct findings f32 = {.checksum = CHECKSUM_START}, f64 = f32;
        walk_neighbours(&f32, MG_F32, op);
        walk_floats(&f32, op, 4093);
        report(&f32, MG_F32, op, 1);
        walk_neighbours(&f64, MG_F64, op);
        walk_doubles(&f64, op, many ? 1 << 21 : 1 << 16);
        report(&f64, MG_F64, op, !many);
    }
    for (int i = 0; i < n_isas; i++) {
        mg_set_isa(isas[i]);
        check_special_values(isas[i]);
        check_oddness(isas[i], MG_TANH);
        check_oddness(isas[i], MG_ERF);
        check_positions(isas[i], MG_F32);
        check_positions(isas[i], MG_F64);
        check_fences(isas[i]);
    }
    return failures > 0;
}
