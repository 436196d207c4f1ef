/* Speed of recurrent layers in GFLOP/s, the best of several runs: inference, forward with what is saved, backward
 * without the products of the weights, and all of training: with those of w, u and x and the sum for b.
 *
 *   bench_recurrent [lstm|gru|before|rnn] [f64] [isa] [threads] [T,N,I,H ...]
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

static const struct {
    const char *name;
    int cell, gates, recurrent, second, saved;
} cells[] = {{"lstm", MG_LSTM, 4, 4, 0, 5},
             {"gru", MG_GRU, 3, 3, 0, 4},
             {"before", MG_GRU_BEFORE, 3, 2, 1, 3},
             {"rnn", MG_RNN_TANH, 1, 1, 0, 0}};

static void least(double *best, double t)
{
    if (t < *best) *best = t;
}

static void bench(int which, int64_t T, int64_t N, int64_t I, int64_t H)
{
    const int cell = cells[which].cell;
    const int64_t G = cells[which].gates, R = cells[which].recurrent, second = cells[which].second;
    const int64_t state = N * H, steps = T * state;
    char *x = array(T * N * I), *w = array(G * H * I), *u = array(R * H * H), *v = array(H * H), *b = array(4 * H);
    char *h0 = array(state), *c0 = array(state), *h = array(state), *c = array(state);
    char *past = array(steps + state); /* h0 and y, end to end: the left factor of du */
    char *y = past + state * size(), *saved = array(cells[which].saved * steps), *dy = array(steps);
    char *dz = array(G * steps), *dz_h = array(3 * steps), *dh = array(state), *dc = array(state);
    char *dx = array(T * N * I), *dw = array(G * H * I), *du = array(R * H * H), *dv = array(H * H), *db = array(4 * H);
    char *one = array(1);
    if (dtype == MG_F32) *(float *)one = 1;
    else *(double *)one = 1;
    int64_t bytes = mg_recurrent_scratch(dtype, cell, T, N, I, H);
    const int64_t products[5] = {mg_gemm_scratch(dtype, T * N, I, 1, G * H), mg_gemm_scratch(dtype, G * H, I, T, N),
                                 mg_gemm_scratch(dtype, R * H, H, T, N), mg_gemm_scratch(dtype, H, H, T, N),
                                 mg_gemm_scratch(dtype, 1, G * H, T, N)};
    for (int i = 0; i < 5; i++)
        if (products[i] > bytes) bytes = products[i];
    char *scratch = malloc((size_t)bytes);
    const int lstm = cell == MG_LSTM;
    const char *cotangent = cell == MG_GRU ? dz_h : dz; /* of the sums with h */
    const int64_t row = G * H, h_row = cell == MG_GRU ? R * H : row;

    const double flops = 2.0 * (double)(T * N * G * H) * (double)(I + H);
    double inference = 1e9, forward = 1e9, walk = 1e9, all = 1e9, start = now();
    for (int run = 0; run < 5 || (now() - start < 0.4 && run < 2000); run++) {
        const double t0 = now();
        mg_recurrent_forward(dtype, cell, T, N, I, H, x, w, u, v, b, b, b, NULL, h0, lstm ? c0 : NULL, NULL, y, h,
                             lstm ? c : NULL, NULL, scratch);
        const double t1 = now();
        mg_recurrent_forward(dtype, cell, T, N, I, H, x, w, u, v, b, b, b, NULL, h0, lstm ? c0 : NULL, NULL, y, h,
                             lstm ? c : NULL, cells[which].saved ? saved : NULL, scratch);
        const double t2 = now();
        mg_recurrent_backward(dtype, cell, T, N, H, u, v, NULL, h0, lstm ? c0 : NULL, NULL, y, saved, dy, NULL, NULL,
                              dz, dz_h, dh, lstm ? dc : NULL, scratch);
        const double t3 = now();
        /* newest step first, as contributions arrive in an unfolded recurrence */
        const int64_t last = (T - 1) * N;
        mg_gemm(dtype, T * N, I, 1, row, dz, row, 0, 1, w, 0, I, 1, NULL, 0, 0, dx, I, scratch);
        mg_gemm(dtype, row, I, T, N, dz + last * row * size(), 1, -N * row, row,
                x + last * I * size(), -N * I, I, 1, NULL, 0, 0, dw, I, scratch);
        mg_gemm(dtype, R * H, H, T, N, cotangent + last * h_row * size(), 1, -N * h_row, h_row,
                past + last * H * size(), -N * H, H, 1, NULL, 0, 0, du, H, scratch);
        if (second) /* with y in place of r*h, which takes as long */
            mg_gemm(dtype, H, H, T, N, dz + (last * row + 2 * H) * size(), 1, -N * row, row,
                    past + last * H * size(), -N * H, H, 1, NULL, 0, 0, dv, H, scratch);
        mg_gemm(dtype, 1, row, T, N, one, 0, 0, 0, dz + last * row * size(), -N * row, row, 1, NULL, 0, 0,
                db, row, scratch);
        const double t4 = now();
        least(&inference, t1 - t0);
        least(&forward, t2 - t1);
        least(&walk, t3 - t2);
        least(&all, t4 - t1);
    }
    printf("%-6s %s %-7s threads %d T %4d N %3d I %4d H %4d  inference %6.1f  forward %6.1f  backward %6.1f  products %6.1f"
           "  training %6.1f GFLOP/s (%.0f us)\n", cells[which].name, dtype == MG_F32 ? "f32" : "f64", mg_isa(), mg_threads(),
           (int)T, (int)N, (int)I, (int)H, flops / inference * 1e-9, flops / forward * 1e-9,
           flops * (double)H / (double)(I + H) / walk * 1e-9,
           flops * (1 + (double)I / (double)(I + H)) / (all - forward - walk) * 1e-9, 3 * flops / all * 1e-9, all * 1e6);
    char *arrays[] = {x, w, u, v, b, h0, c0, h, c, past, saved, dy, dz, dz_h, dh, dc, dx, dw, du, dv, db, one, scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

int main(int argc, char **argv)
{
    int which = 0, threads = 0, done = 0;
    static const int shapes[][4] = {{50, 1, 32, 32},     {50, 32, 32, 32},    {100, 16, 64, 128},  {35, 20, 200, 200},
                                    {50, 64, 128, 256}, {100, 32, 256, 256}, {50, 64, 512, 512}, {25, 64, 1024, 1024}};
    for (int i = 1; i < argc; i++) {
        int T, N, I, H, is_cell = 0;
        for (int k = 0; k < 4; k++)
            if (strcmp(argv[i], cells[k].name) == 0) which = k, is_cell = 1;
        if (is_cell) continue;
        if (strcmp(argv[i], "f64") == 0) dtype = MG_F64;
        else if (sscanf(argv[i], "%d,%d,%d,%d", &T, &N, &I, &H) == 4) {
            for (int n = threads ? threads : 1; n <= (threads ? threads : 2); n++)
                mg_set_threads(n), bench(which, T, N, I, H), done = 1;
        } else if (argv[i][0] >= '1' && argv[i][0] <= '9') threads = atoi(argv[i]);
        else if (mg_set_isa(argv[i]) != 0) return printf("no such instruction set here: %s\n", argv[i]), 1;
    }
    for (size_t i = 0; !done && i < sizeof shapes / sizeof *shapes; i++)
        for (int n = threads ? threads : 1; n <= (threads ? threads : 2); n++) {
            mg_set_threads(n);
            bench(which, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
        }
    return 0;
}
