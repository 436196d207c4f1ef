/* The gradient rules of elementwise functions, and the loops that NumPy calls. */
#include "check.h"

#include <fenv.h>

static double naive(int dtype, int op, double g, double y)
{
    if (dtype == MG_F32) {
        volatile float gf = (float)g, yf = (float)y, a, b;
        if (op == MG_TANH) return a = yf * yf, b = 1 - a, gf * b;
        return a = gf * yf, b = 1 - yf, a * b;
    }
    volatile double a, b;
    if (op == MG_TANH) return a = y * y, b = 1 - a, g * b;
    return a = g * y, b = 1 - y, a * b;
}

static int same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

enum { N = 600, SEEN = FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW }; /* flags that NumPy reads */

/* As a kernel would: in the unit that kernels compute with. */
static void raise_overflow(void)
{
    volatile double big = 1e308;
    big *= 10;
}

/* The product loop against mg_gemm, for strides of all kinds and stacks of matrices. */
static int64_t check_products(const char *name, int dtype)
{
    enum { MOST = 24, ROOM = 8 * MOST * MOST };
    static double a[ROOM], b[ROOM], s[ROOM], out[ROOM], expected[ROOM];
    static char scratch[1 << 20];
    const intptr_t width = (intptr_t)dtype_size(dtype);
    int64_t checked = 0;
    for (int j = 0; j < ROOM; j++) {
        set(dtype, a, j, ldexp((double)below(4001) - 2000, -10));
        set(dtype, b, j, ldexp((double)below(4001) - 2000, -10));
        set(dtype, s, j, ldexp((double)below(4001) - 2000, -10));
    }
    for (int trial = 0; trial < 300; trial++) {
        const int kind = trial % 3, last = kind == MG_MATMUL ? 2 : 3;
        const int64_t m = below(MOST), k = below(MOST), n = below(MOST), outer = below(3);
        const int64_t a_row = ONE_OF(k + 1, 0), a_k = ONE_OF(1, 2), b_k = ONE_OF(1, n + 1), b_col = b_k == 1 ? k + 1 : 1;
        const int64_t s_row = kind == MG_AFFINE_START ? n + 2 : 0, step = MOST * MOST;
        const intptr_t sizes[4] = {outer, m, k, n};
        intptr_t strides[4 + 8] = {ONE_OF(0, step * width), ONE_OF(0, step * width)};
        intptr_t *core = strides + last + 1;
        strides[last] = step * width;
        *core++ = a_row * width, *core++ = a_k * width;
        if (kind == MG_MATMUL) *core++ = b_k * width, *core++ = b_col * width;
        else *core++ = b_col * width, *core++ = b_k * width;
        if (kind == MG_AFFINE_START) *core++ = s_row * width;
        if (kind != MG_MATMUL) *core++ = width;
        *core++ = n * width, *core++ = width;
        char *args[4] = {(char *)a, (char *)b, (char *)(last == 3 ? s : out), (char *)out};
        for (int j = 0; j < ROOM; j++) set(dtype, out, j, 777);
        raise_overflow();
        (dtype == MG_F32 ? mg_loop_product_f32 : mg_loop_product_f64)(args, sizes, strides, (void *)(intptr_t)kind);
        CHECK(!fetestexcept(SEEN), "%s: a floating-point flag is left", name);
        for (int64_t o = 0; o < outer; o++) {
            mg_gemm(dtype, m, n, 1, k, args[0] + o * strides[0], a_row, 0, a_k, args[1] + o * strides[1], 0, b_k, b_col,
                    last == 3 ? s : NULL, s_row, 1, expected, n, scratch);
            for (int64_t j = 0; j < m * n; j++, checked++)
                CHECK(get(dtype, out, o * step + j) == get(dtype, expected, j), "%s %s: product %d of %ld x %ld x %ld", name,
                      dtype_names[dtype], kind, (long)m, (long)k, (long)n);
            CHECK(get(dtype, out, o * step + m * n) == 777, "%s: written past the end of a product", name);
        }
    }
    return checked;
}

int main(void)
{
    int64_t checked = 0, products = 0;
    static double storage[3][4 * N];
    FOR_EACH_ISA(name) {
        for (int dtype = 0; dtype < 2; dtype++) {
            products += check_products(name, dtype);
            const intptr_t width = (intptr_t)dtype_size(dtype);
            for (int trial = 0; trial < 200; trial++) {
                const int64_t n = trial < 40 ? trial : below(N);
                /* Strides in elements, 0 and negative among them; the result's is never 0. */
                int64_t step[3] = {ONE_OF(1, 1, 2, 3, 0, -1), ONE_OF(1, 1, 1, 4, 0, -2), ONE_OF(1, 1, 2, -1)};
                if (trial % 3 == 0) step[0] = step[1] = step[2] = 1;
                char *args[3];
                intptr_t strides[3];
                for (int i = 0; i < 3; i++) {
                    for (int j = 0; j < 4 * N; j++) set(dtype, storage[i], j, ldexp((double)below(4001) - 2000, -10));
                    args[i] = (char *)storage[i] + (step[i] < 0 ? -step[i] * (n ? n - 1 : 0) * width : 0);
                    strides[i] = step[i] * width;
                }
                set(dtype, args[1], 0, NAN);
                set(dtype, storage[2], 4 * N - 1, 12345);
                const intptr_t size = n;
                for (int op = MG_TANH; op <= MG_SIGMOID; op++) {
                    raise_overflow();
                    (dtype == MG_F32 ? mg_loop_rule_f32 : mg_loop_rule_f64)(args, &size, strides, (void *)(intptr_t)op);
                    CHECK(!fetestexcept(SEEN), "%s: a floating-point flag is left", name);
                    for (int64_t i = 0; i < n; i++) {
                        double g = get(dtype, args[0], i * step[0]), y = get(dtype, args[1], i * step[1]);
                        double got = get(dtype, args[2], i * step[2]), expected = naive(dtype, op, g, y);
                        CHECK(same(got, expected), "%s %s: rule %d at %ld of %ld: %a, not %a", name,
                              dtype_names[dtype], op, (long)i, (long)n, got, expected);
                        checked++;
                    }
                }
                /* The unary loop against the kernel on contiguous arguments. */
                static double x[N], y[N];
                for (int64_t i = 0; i < n; i++) set(dtype, x, i, get(dtype, args[1], i * step[1]));
                mg_unary(dtype, MG_SIGMOID, n, x, y);
                char *two[2] = {args[1], args[2]};
                const intptr_t pair[2] = {strides[1], strides[2]};
                (dtype == MG_F32 ? mg_loop_unary_f32 : mg_loop_unary_f64)(two, &size, pair, (void *)(intptr_t)MG_SIGMOID);
                for (int64_t i = 0; i < n; i++)
                    CHECK(same(get(dtype, args[2], i * step[2]), get(dtype, y, i)), "%s %s: sigmoid at %ld of %ld", name,
                          dtype_names[dtype], (long)i, (long)n);
                CHECK(get(dtype, storage[2], 4 * N - 1) == 12345, "%s: written past the end", name);
            }
        }
    }
    printf("%ld gradients, strided and not, equal to the text of their rules; %ld elements of products\n", (long)checked, (long)products);
    return 0;
}
