/* The elementwise kernels as NumPy knows loops: one dimension, strides in bytes. NumPy allocates, broadcasts and
 * walks the other dimensions; here strided arguments pass through a small block on the stack. */
#include <fenv.h>
#include <string.h>

#include "minigrad.h"

enum { BLOCK = 256 }; /* elements */

typedef void (*kernel)(int dtype, int op, int64_t n, char *const *args);

static void unary(int dtype, int op, int64_t n, char *const *args) { mg_unary(dtype, op, n, args[0], args[1]); }

static void rule(int dtype, int op, int64_t n, char *const *args)
{
    mg_rule(dtype, op, n, args[0], args[1], args[2]);
}

static void gather(char *to, const char *from, intptr_t stride, int64_t n, int64_t width)
{
    for (int64_t i = 0; i < n; i++) memcpy(to + i * width, from + i * stride, (size_t)width);
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
    feclearexcept(FE_ALL_EXCEPT);
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
