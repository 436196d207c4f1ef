/* What the C tests share: arrays that end at forbidden memory, random numbers, comparison to the bit. */
#ifndef MG_CHECK_H
#define MG_CHECK_H

#define _GNU_SOURCE
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "minigrad.h"

#define UNUSED __attribute__((unused))

UNUSED static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    exit(1);
}

#define CHECK(condition, ...)                                            \
    do {                                                                 \
        if (!(condition)) printf("%s:%d: ", __FILE__, __LINE__), fail(__VA_ARGS__); \
    } while (0)

/* splitmix64: the same numbers on every machine */
static uint64_t random_state = 1;
UNUSED static uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
UNUSED static int64_t below(int64_t n) { return (int64_t)(random_bits() % (uint64_t)n); }
UNUSED static int64_t one_of(const int64_t *from, size_t n) { return from[below((int64_t)n)]; }
#define LIST(...) (const int64_t[]){__VA_ARGS__}
#define ONE_OF(...) one_of(LIST(__VA_ARGS__), sizeof(LIST(__VA_ARGS__)) / sizeof(int64_t))

static const char *const dtype_names[2] = {"f32", "f64"};
UNUSED static size_t dtype_size(int dtype) { return dtype == MG_F32 ? sizeof(float) : sizeof(double); }

UNUSED static double get(int dtype, const void *p, int64_t i)
{
    return dtype == MG_F32 ? ((const float *)p)[i] : ((const double *)p)[i];
}
UNUSED static void set(int dtype, void *p, int64_t i, double x)
{
    if (dtype == MG_F32) ((float *)p)[i] = (float)x;
    else ((double *)p)[i] = x;
}

/* Memory between two forbidden pages: it ends at the one behind or, by chance, begins at the one before. */
struct mapping { void *base; size_t bytes; };
static struct mapping mappings[512];
static int n_mappings;

UNUSED static void *guarded(int64_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = ((size_t)bytes + page - 1) / page * page;
    char *base = mmap(NULL, inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(base != MAP_FAILED && n_mappings < 512, "no memory");
    mprotect(base, page, PROT_NONE);
    mprotect(base + page + inner, page, PROT_NONE);
    mappings[n_mappings++] = (struct mapping){base, inner + 2 * page};
    return below(3) == 0 ? base + page : base + page + inner - bytes;
}
/* What there is so far may from now on be read only. */
UNUSED static void seal(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < n_mappings; i++)
        mprotect((char *)mappings[i].base + page, mappings[i].bytes - 2 * page, PROT_READ);
}
UNUSED static void release(void)
{
    while (n_mappings > 0) n_mappings--, munmap(mappings[n_mappings].base, mappings[n_mappings].bytes);
}

/* n numbers of [-1, 1) */
UNUSED static void *numbers(int dtype, int64_t n)
{
    void *p = guarded(n * (int64_t)dtype_size(dtype));
    for (int64_t i = 0; i < n; i++) set(dtype, p, i, (double)(random_bits() >> 11) * 0x1p-52 - 1);
    return p;
}
/* n elements that hold what no kernel writes by chance */
UNUSED static void *poisoned(int dtype, int64_t n)
{
    void *p = guarded(n * (int64_t)dtype_size(dtype));
    for (int64_t i = 0; i < n; i++) set(dtype, p, i, 12345.5);
    return p;
}
UNUSED static void *copied(int dtype, int64_t n, const void *from)
{
    void *p = guarded(n * (int64_t)dtype_size(dtype));
    if (n) memcpy(p, from, (size_t)n * dtype_size(dtype));
    return p;
}

/* Index of the first element that differs, or -1. The sign of a zero counts, the kind of NaN does not. */
UNUSED static int64_t difference(int dtype, int64_t n, const void *a, const void *b)
{
    for (int64_t i = 0; i < n; i++) {
        double x = get(dtype, a, i), y = get(dtype, b, i);
        if (!(x == y && signbit(x) == signbit(y)) && !(isnan(x) && isnan(y))) return i;
    }
    return -1;
}

/* FOR_EACH_ISA(name) runs the statement behind it with every instruction set of this machine, best first. */
UNUSED static int next_isa(const char **rest, char name[32])
{
    int n = 0;
    while (**rest == ' ') ++*rest;
    while (**rest && **rest != ' ') name[n++] = *(*rest)++;
    name[n] = 0;
    if (!n) return 0;
    CHECK(mg_set_isa(name) == 0 && strcmp(mg_isa(), name) == 0, "cannot choose %s", name);
    return 1;
}
#define FOR_EACH_ISA(name) \
    for (const char *rest_ = mg_isas(), *once_ = rest_; once_; once_ = NULL) \
        for (char name[32]; next_isa(&rest_, name);)

#endif
