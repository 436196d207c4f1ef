/* Kernels as NumPy knows loops, strides in bytes: NumPy checks shapes, allocates the result, broadcasts, and walks
 * the dimensions that a loop does not know of. A call costs a fraction of one through cffi. */
#include <string.h>

#if defined __SSE2__
#include <xmmintrin.h>
#else
#include <fenv.h>
#endif

#include "minigrad.h"
#include "mutant.h"

/* NumPy reads four flags after the loop and would warn; it never asks whether a result was inexact. feclearexcept
 * also clears those of the x87 unit, which costs as much as fifty elements. */
static void clear_flags(void)
{
#if defined __SSE2__
    const unsigned seen = _MM_EXCEPT_INVALID | _MM_EXCEPT_DIV_ZERO | _MM_EXCEPT_OVERFLOW | _MM_EXCEPT_UNDERFLOW;
    const unsigned flags = _mm_getcsr();
    if (flags & seen) _mm_setcsr(flags & ~seen);
    if (MG_BUG(110)) _mm_setcsr(_mm_getcsr() | _MM_FLUSH_ZERO_ON);
#else
    feclearexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW);
#endif
}

/* --- elementwise: one dimension. Strided arguments pass through a small block on the stack. --- */

enum { BLOCK = 256 }; /* elements */

typedef void (*kernel)(int dtype, int op, int64_t n, char *const *args);

static void unary(int dtype, int op, int64_t n, char *const *args) { mg_unary(dtype, op, n, args[0], args[1]); }

static void rule(int dtype, int op, int64_t n, char *const *args)
{
    mg_rule(dtype, op, n, args[0], args[1], args[2]);
}

static void gather(char *to, const char *from, intptr_t stride, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * width, from + (MG_BUG(106) ? (int)(i * stride) : i * stride), (size_t)width);
}

static void scatter(char *to, const char *from, intptr_t stride, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++) memcpy(to + i * stride, from + i * width, (size_t)width);
}

static void loop(kernel run, int inputs, int dtype, char **args, int64_t n, const intptr_t *strides, void *data)
{
    const int op = (int)(intptr_t)data;
    const int64_t width = dtype == MG_F32 ? 4 : 8;
    int contiguous = 1;
    for (int i = 0; i <= inputs; i++) contiguous &= strides[i] == width;
    if (contiguous) {
        run(dtype, op, n, args);
    } else {
        double blocks[3][BLOCK];
        char *const packed[3] = {(char *)blocks[0], (char *)blocks[1], (char *)blocks[2]};
        for (int64_t start = 0; start < n; start += BLOCK) {
            int64_t m = n - start < BLOCK ? n - start : BLOCK;
            for (int i = 0; i < inputs; i++) gather(packed[i], args[i] + start * strides[i], strides[i], m, width);
            char *const out = packed[inputs];
            run(dtype, op, m, packed);
            scatter(args[inputs] + start * strides[inputs], out, strides[inputs], m, width);
        }
    }
    clear_flags();
}

void mg_loop_unary_f32(char **args, const intptr_t *size, const intptr_t *strides, void *data)
{
    loop(unary, 1, MG_F32, args, size[0], strides, data);
}

void mg_loop_unary_f64(char **args, const intptr_t *size, const intptr_t *strides, void *data)
{
    loop(unary, 1, MG_F64, args, size[0], strides, data);
}

void mg_loop_rule_f32(char **args, const intptr_t *size, const intptr_t *strides, void *data)
{
    loop(rule, 2, MG_F32, args, size[0], strides, data);
}

void mg_loop_rule_f64(char **args, const intptr_t *size, const intptr_t *strides, void *data)
{
    loop(rule, 2, MG_F64, args, size[0], strides, data);
}

/* --- products: the dimensions m, k, n, for every element of the outer ones --- */

/* Threads may have small stacks, so the working memory is small, and a product is cut until it is enough: along k
 * into chains that go on where the last one stopped, then into halves. One panel of columns always fits. */
enum { STACK = 32 * 1024, K_MOST = 64 };

struct product {
    int dtype;
    int64_t width, k, a_row, a_k, b_k, b_col, s_row, s_col, o_row;
    char *scratch;
};

/* In one piece where its working memory has room, else in halves: elements do not depend on each other. */
static void halves(const struct product *p, int64_t m, int64_t n, const char *a, const char *b, const char *s,
                    char *out)
{
    if (mg_gemm_scratch(p->dtype, m, n, 1, p->k) <= STACK) {
        mg_gemm(p->dtype, m, n, 1, p->k, a, p->a_row, 0, p->a_k, b, 0, p->b_k, p->b_col, s, p->s_row, p->s_col,
                out, p->o_row, p->scratch);
    } else if (m > n) {
        const int64_t h = m / 2;
        halves(p, h, n, a, b, s, out);
        halves(p, m - h, n, a + h * p->a_row * p->width, b, s ? s + h * p->s_row * p->width : s,
                out + h * p->o_row * p->width);
    } else {
        const int64_t h = n / 2;
        halves(p, m, h, a, b, s, out);
        halves(p, m, n - h, a, b + h * p->b_col * p->width, s ? s + h * p->s_col * p->width : s,
                out + h * p->width);
    }
}

static void product(struct product p, int64_t m, int64_t n, const char *a, const char *b, const char *s, char *out)
{
    for (int64_t k = p.k, done = 0; done == 0 || done < k; done += K_MOST) {
        p.k = k - done < K_MOST ? k - done : K_MOST;
        halves(&p, m, n, a + done * p.a_k * p.width, b + done * p.b_k * p.width, s, out);
        s = out, p.s_row = p.o_row, p.s_col = 1;
    }
}

static void products(int dtype, char **args, const intptr_t *sizes, const intptr_t *strides, void *data)
{
    const int kind = (int)(intptr_t)data, last = kind == MG_MATMUL ? 2 : 3; /* args[last] is the result */
    const int64_t width = dtype == MG_F32 ? 4 : 8, outer = sizes[0], m = sizes[1], k = sizes[2], n = sizes[3];
    char scratch[STACK];
    static char shared[MG_BUG(104) ? STACK : 1];
    struct product p = {.dtype = dtype, .width = width, .k = k, .scratch = MG_BUG(104) ? shared : scratch};
    const intptr_t *core = strides + last + 1;
    p.a_row = *core++ / width, p.a_k = *core++ / width;
    if (MG_BUG(101) && p.a_k == 1) p.a_row = k;
    if (kind == MG_MATMUL) {
        p.b_k = *core++ / width, p.b_col = *core++ / width;
    } else {
        p.b_col = *core++ / width, p.b_k = *core++ / width;
        if (kind == MG_AFFINE_START) p.s_row = *core++ / width;
        p.s_col = *core++ / width;
    }
    p.o_row = *core / width;
    for (int64_t i = 0; i < outer; i++)
        product(p, m, n, args[0] + i * strides[0], args[1] + i * strides[1],
                last == 3 ? args[2] + i * strides[2] : NULL, args[last] + i * strides[last]);
    clear_flags();
}

void mg_loop_product_f32(char **args, const intptr_t *sizes, const intptr_t *strides, void *data)
{
    products(MG_F32, args, sizes, strides, data);
}

void mg_loop_product_f64(char **args, const intptr_t *sizes, const intptr_t *strides, void *data)
{
    products(MG_F64, args, sizes, strides, data);
}
