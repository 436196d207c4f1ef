/* Speed of the LSTM in GFLOP/s, the best of several runs: forward, backward with all gradients (the two
 * products of the weights, that of x, and that of b), and both together.
 *
 *   bench_lstm [f64] [isa]
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "minigrad.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int dtype = MG_F32;
static int64_t size(void) { return dtype == MG_F32 ? 4 : 8; }

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

static void bench(int64_t T, int64_t N, int64_t I, int64_t H)
{
    const int64_t state = N * H, steps = T * state;
    char *x = array(T * N * I), *w = array(4 * H * I), *u = array(4 * H * H), *b = array(4 * H);
    char *h0 = array(state), *c0 = array(state), *h = array(state), *c = array(state);
    char *past = array(steps + state); /* h0 and y, end to end: the left factor of du */
    char *y = past + state * size(), *gates = array(4 * steps), *cells = array(steps), *dy = array(steps);
    char *dz = array(4 * steps), *dh = array(state), *dc = array(state), *dx = array(T * N * I);
    char *dw = array(4 * H * I), *du = array(4 * H * H), *db = array(4 * H), *one = array(1);
    if (dtype == MG_F32) *(float *)one = 1;
    else *(double *)one = 1;
    int64_t bytes = mg_lstm_scratch(dtype, T, N, I, H);
    const int64_t products[4] = {mg_gemm_scratch(dtype, T * N, I, 1, 4 * H),
                                 mg_gemm_scratch(dtype, 4 * H, I, T, N),
                                 mg_gemm_scratch(dtype, 4 * H, H, T, N),
                                 mg_gemm_scratch(dtype, 1, 4 * H, T, N)};
    for (int i = 0; i < 4; i++)
        if (products[i] > bytes) bytes = products[i];
    char *scratch = malloc((size_t)bytes);

    const double flops = 2.0 * (double)(T * N * 4 * H) * (double)(I + H);
    double forward = 1e9, walk = 1e9, all = 1e9, start = now();
    for (int run = 0; run < 5 || (now() - start < 0.4 && run < 2000); run++) {
        double t0 = now();
        mg_lstm_forward(dtype, T, N, I, H, x, w, u, b, h0, c0, NULL, y, h, c, gates, cells, scratch);
        double t1 = now();
        mg_lstm_backward(dtype, T, N, H, u, c0, NULL, gates, cells, dy, NULL, NULL, dz, dh, dc, scratch);
        double t2 = now();
        /* newest step first, as contributions arrive in an unfolded recurrence */
        const int64_t last = (T - 1) * N;
        mg_gemm(dtype, T * N, I, 1, 4 * H, dz, 4 * H, 0, 1, w, 0, I, 1, NULL, 0, 0, dx, I, scratch);
        mg_gemm(dtype, 4 * H, I, T, N, dz + last * 4 * H * size(), 1, -N * 4 * H, 4 * H,
                x + last * I * size(), -N * I, I, 1, NULL, 0, 0, dw, I, scratch);
        mg_gemm(dtype, 4 * H, H, T, N, dz + last * 4 * H * size(), 1, -N * 4 * H, 4 * H,
                past + last * H * size(), -N * H, H, 1, NULL, 0, 0, du, H, scratch);
        mg_gemm(dtype, 1, 4 * H, T, N, one, 0, 0, 0,
                dz + last * 4 * H * size(), -N * 4 * H, 4 * H, 1, NULL, 0, 0, db, 4 * H, scratch);
        double t3 = now();
        if (t1 - t0 < forward) forward = t1 - t0;
        if (t2 - t1 < walk) walk = t2 - t1;
        if (t3 - t0 < all) all = t3 - t0;
    }
    printf("%7s %-8s T %4d N %4d I %4d H %4d threads %d   forward %6.1f   backward %6.1f   all %6.1f GFLOP/s "
           " (%.0f us)\n", dtype == MG_F32 ? "float32" : "float64", mg_isa(), (int)T, (int)N, (int)I, (int)H,
           mg_threads(), flops / forward * 1e-9, flops * (double)H / (double)(I + H) / walk * 1e-9,
           3 * flops / all * 1e-9, all * 1e6);
    char *arrays[] = {x, w, u, b, h0, c0, h, c, past, gates, cells,
                      dy, dz, dh, dc, dx, dw, du, db, one, scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "f64") == 0) dtype = MG_F64;
        else if (mg_set_isa(argv[i]) != 0) return printf("no such instruction set here: %s\n", argv[i]), 1;
    }
    static const int shapes[][4] = {{50, 1, 32, 32},    {50, 32, 32, 32},   {100, 16, 64, 128},
                                    {35, 20, 192, 192}, {50, 64, 128, 256}, {100, 32, 256, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int threads = 1; threads <= 2; threads++) {
            mg_set_threads(threads);
            bench(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        }
    return 0;
}
