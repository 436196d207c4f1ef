/* One text for both dtypes: values travel as double, every operation rounds to the dtype. For + - * this is
 * exactly the operation of the dtype, because double has more than twice the bits of float. */
#include "check.h"
#include "ref.h"

static double rounded(int dtype, double x) { return dtype == MG_F32 ? (double)(float)x : x; }
static double add(int d, double x, double y) { return rounded(d, x + y); }
static double sub(int d, double x, double y) { return rounded(d, x - y); }
static double mul(int d, double x, double y) { return rounded(d, x * y); }
static double chain(int d, double x, double y, double sum)
{
    return d == MG_F32 ? (double)fmaf((float)x, (float)y, (float)sum) : fma(x, y, sum);
}
static double unary(int dtype, int op, double x)
{
    double in, out;
    set(dtype, &in, 0, x);
    mg_unary(dtype, op, 1, &in, &out);
    return get(dtype, &out, 0);
}

void ref_gemm(int d, int64_t m, int64_t n, int64_t blocks, int64_t k,
              const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
              const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
              const void *start, int64_t start_row, int64_t start_col, void *out, int64_t out_row)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = start ? get(d, start, i * start_row + j * start_col) : 0;
            for (int64_t q = 0; q < blocks; q++)
                for (int64_t p = 0; p < k; p++)
                    sum = chain(d, get(d, a, i * a_row + q * a_block + p * a_k),
                                get(d, b, q * b_block + p * b_k + j * b_col), sum);
            set(d, out, i * out_row + j, sum);
        }
}

void ref_lstm_forward(int d, int64_t T, int64_t N, int64_t I, int64_t H,
                      const void *x, const void *w, const void *u, const void *b,
                      const void *h0, const void *c0, const int64_t *lengths,
                      void *y, void *h_last, void *c_last, void *gates, void *cells)
{
    static const int op[4] = {MG_SIGMOID, MG_SIGMOID, MG_TANH, MG_SIGMOID};
    for (int64_t r = 0; r < N; r++) {
        double *h = calloc((size_t)H + 1, sizeof *h), *c = calloc((size_t)H + 1, sizeof *c);
        for (int64_t j = 0; j < H; j++) h[j] = get(d, h0, r * H + j), c[j] = get(d, c0, r * H + j);
        for (int64_t t = 0; t < T; t++) {
            const int64_t row = t * N + r;
            const int active = !lengths || t < lengths[r];
            double *next = calloc((size_t)H + 1, sizeof *next);
            for (int64_t j = 0; j < H; j++) {
                double gate[4] = {0, 0, 0, 0};
                for (int s = 0; s < 4 && active; s++) {
                    double z = get(d, b, s * H + j);
                    for (int64_t p = 0; p < I; p++)
                        z = chain(d, get(d, x, row * I + p), get(d, w, (s * H + j) * I + p), z);
                    for (int64_t p = 0; p < H; p++) z = chain(d, h[p], get(d, u, (s * H + j) * H + p), z);
                    gate[s] = unary(d, op[s], z);
                }
                if (active) {
                    c[j] = add(d, mul(d, gate[1], c[j]), mul(d, gate[0], gate[2]));
                    next[j] = mul(d, gate[3], unary(d, MG_TANH, c[j]));
                }
                set(d, y, row * H + j, next[j]);
                for (int s = 0; s < 4 && gates; s++) set(d, gates, (row * 4 + s) * H + j, gate[s]);
                if (cells) set(d, cells, row * H + j, active ? c[j] : 0);
            }
            if (active) memcpy(h, next, (size_t)H * sizeof *h);
            free(next);
        }
        for (int64_t j = 0; j < H; j++) set(d, h_last, r * H + j, h[j]), set(d, c_last, r * H + j, c[j]);
        free(h), free(c);
    }
}

void ref_lstm_backward(int d, int64_t T, int64_t N, int64_t H,
                       const void *u, const void *c0, const int64_t *lengths,
                       const void *gates, const void *cells,
                       const void *dy, const void *dh_last, const void *dc_last,
                       void *dz, void *dh0, void *dc0)
{
    for (int64_t r = 0; r < N; r++) {
        double *dh = calloc((size_t)H + 1, sizeof *dh), *dc = calloc((size_t)H + 1, sizeof *dc);
        for (int64_t j = 0; j < H; j++) {
            dh[j] = dh_last ? get(d, dh_last, r * H + j) : 0;
            dc[j] = dc_last ? get(d, dc_last, r * H + j) : 0;
        }
        for (int64_t t = T - 1; t >= 0; t--) {
            const int64_t row = t * N + r, z = row * 4 * H;
            const int active = !lengths || t < lengths[r];
            for (int64_t j = 0; j < H; j++) {
                if (!active) {
                    for (int s = 0; s < 4; s++) set(d, dz, z + s * H + j, 0);
                    continue;
                }
                const double i = get(d, gates, z + j), f = get(d, gates, z + H + j);
                const double g = get(d, gates, z + 2 * H + j), o = get(d, gates, z + 3 * H + j);
                const double c_prev = t ? get(d, cells, (row - N) * H + j) : get(d, c0, r * H + j);
                const double dht = add(d, dy ? get(d, dy, row * H + j) : 0, dh[j]);
                const double tc = unary(d, MG_TANH, get(d, cells, row * H + j));
                const double d_o = mul(d, dht, tc);
                const double dct = add(d, dc[j], mul(d, mul(d, dht, o), sub(d, 1, mul(d, tc, tc))));
                const double df = mul(d, dct, c_prev), di = mul(d, dct, g), dg = mul(d, dct, i);
                dc[j] = mul(d, dct, f);
                set(d, dz, z + j, mul(d, mul(d, di, i), sub(d, 1, i)));
                set(d, dz, z + H + j, mul(d, mul(d, df, f), sub(d, 1, f)));
                set(d, dz, z + 2 * H + j, mul(d, dg, sub(d, 1, mul(d, g, g))));
                set(d, dz, z + 3 * H + j, mul(d, mul(d, d_o, o), sub(d, 1, o)));
            }
            for (int64_t j = 0; j < H && active; j++) {
                dh[j] = 0;
                for (int64_t p = 0; p < 4 * H; p++)
                    dh[j] = chain(d, get(d, dz, z + p), get(d, u, p * H + j), dh[j]);
            }
        }
        for (int64_t j = 0; j < H; j++) set(d, dh0, r * H + j, dh[j]), set(d, dc0, r * H + j, dc[j]);
        free(dh), free(dc);
    }
}

void ref_scatter_rows(int d, int64_t n, int64_t width, const int64_t *index, const void *g, void *out)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < width; j++) {
            const int64_t to = index[r] * width + j;
            set(d, out, to, add(d, get(d, out, to), get(d, g, r * width + j)));
        }
}
