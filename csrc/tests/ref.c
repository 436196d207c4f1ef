/* One text for both dtypes: values travel as double, every operation rounds to the dtype. For + - * this is
 * exactly the operation of the dtype, because double has more than twice the bits of float. */
#include "check.h"
#include "ref.h"

static int type; /* the dtype of the call under way */

static double rounded(double x) { return type == MG_F32 ? (double)(float)x : x; }
static double add(double x, double y) { return rounded(x + y); }
static double sub(double x, double y) { return rounded(x - y); }
static double mul(double x, double y) { return rounded(x * y); }
static double fused(double x, double y, double sum)
{
    return type == MG_F32 ? (double)fmaf((float)x, (float)y, (float)sum) : fma(x, y, sum);
}
static double unary(int op, double x)
{
    double in, out;
    set(type, &in, 0, x);
    mg_unary(type, op, 1, &in, &out);
    return get(type, &out, 0);
}
static double sigmoid(double x) { return unary(MG_SIGMOID, x); }
static double tanh_(double x) { return unary(MG_TANH, x); }
static double relu(double x) { return x <= 0 ? 0 : x; }
static double sigmoid_rule(double g, double y) { return mul(mul(g, y), sub(1, y)); }
static double tanh_rule(double g, double y) { return mul(g, sub(1, mul(y, y))); }
static double relu_rule(double g, double y) { return y <= 0 ? 0 : g; }

void ref_gemm(int d, int64_t m, int64_t n, int64_t blocks, int64_t k,
              const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
              const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
              const void *start, int64_t start_row, int64_t start_col, void *out, int64_t out_row)
{
    type = d;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = start ? get(d, start, i * start_row + j * start_col) : 0;
            for (int64_t q = 0; q < blocks; q++)
                for (int64_t p = 0; p < k; p++)
                    sum = fused(get(d, a, i * a_row + q * a_block + p * a_k),
                                get(d, b, q * b_block + p * b_k + j * b_col), sum);
            set(d, out, i * out_row + j, sum);
        }
}

/* ---- Recurrent layers: the text of minigrad.h, row by row ---- */

const struct ref_cell ref_cells[6] = {
    [MG_LSTM] = {"LSTM", 4, 4, 5, 0, 0, 1, 0},
    [MG_LSTM_SIGMOID] = {"LSTM_SIGMOID", 4, 4, 5, 0, 0, 1, 0},
    [MG_GRU] = {"GRU", 3, 3, 4, 1, 0, 0, 1},
    [MG_GRU_BEFORE] = {"GRU_BEFORE", 3, 2, 3, 1, 1, 0, 0},
    [MG_RNN_TANH] = {"RNN_TANH", 1, 1, 0, 1, 0, 0, 0},
    [MG_RNN_RELU] = {"RNN_RELU", 1, 1, 0, 1, 0, 0, 0},
};

/* Arrays as doubles, zeros where there is none; they live until the call ends. */
static double *owned[32];
static int n_owned;

static double *doubles(const void *p, int64_t n)
{
    double *to = owned[n_owned++] = calloc((size_t)n + 1, sizeof *to);
    for (int64_t i = 0; i < n && p; i++) to[i] = get(type, p, i);
    return to;
}
static void give(void *p, int64_t n, const double *from)
{
    for (int64_t i = 0; i < n && p; i++) set(type, p, i, from[i]);
}
static void end_call(void)
{
    while (n_owned > 0) free(owned[--n_owned]);
}

/* A chain of FMAs over the products of a and m, whose elements lie `step` apart. */
static double chain(double sum, int64_t n, const double *a, const double *m, int64_t step)
{
    for (int64_t q = 0; q < n; q++) sum = fused(a[q], m[q * step], sum);
    return sum;
}

void ref_recurrent_forward(int d, int cell, int64_t T, int64_t N, int64_t I, int64_t H,
                           const void *x_, const void *w_, const void *u_, const void *v_,
                           const void *b_x_, const void *b_h_, const void *b_v_, const void *p_,
                           const void *h0, const void *c0, const int64_t *lengths,
                           void *y_, void *h_last, void *c_last, void *saved_)
{
    type = d;
    const int G = ref_cells[cell].gates, G_u = ref_cells[cell].recurrent, S = ref_cells[cell].saved;
    const double *x = doubles(x_, T * N * I), *w = doubles(w_, G * H * I), *u = doubles(u_, G_u * H * H);
    const double *v = doubles(v_, H * H), *p = doubles(p_, 3 * H);
    const double *b_x = doubles(b_x_, G * H), *b_h = doubles(b_h_, G_u * H), *b_v = doubles(b_v_, H);
    double *state = doubles(h0, N * H), *state_c = doubles(c0, N * H);
    double *y = doubles(NULL, T * N * H), *saved = doubles(NULL, T * N * S * H);
    double *a = doubles(NULL, G * H), *e = doubles(NULL, G_u * H), *rh = doubles(NULL, H), *new = doubles(NULL, H);

    for (int64_t t = 0; t < T; t++)
        for (int64_t row = 0; row < N; row++) {
            if (lengths && t >= lengths[row]) continue;
            double *h = state + row * H, *c = state_c + row * H, *s = saved + (t * N + row) * S * H;
            for (int64_t j = 0; j < G * H; j++) a[j] = chain(b_x[j], I, x + (t * N + row) * I, w + j * I, 1);
            for (int64_t j = 0; j < G_u * H; j++)
                e[j] = chain(ref_cells[cell].c ? a[j] : b_h[j], H, h, u + j * H, 1);

            for (int64_t j = 0; j < H; j++) {
                const double *z_ = e + j, *a_ = a + j, *e_ = e + j; /* the gates of unit j: H apart */
                double i, f, g, o, r, z, n;
                switch (cell) {
                case MG_LSTM:
                case MG_LSTM_SIGMOID:
                    i = z_[0], f = z_[H], g = z_[2 * H], o = z_[3 * H];
                    if (p_) i = add(i, mul(c[j], p[j])), f = add(f, mul(c[j], p[H + j]));
                    i = sigmoid(i), f = sigmoid(f), g = cell == MG_LSTM ? tanh_(g) : sigmoid(g);
                    c[j] = add(mul(f, c[j]), mul(i, g));
                    if (p_) o = add(o, mul(c[j], p[2 * H + j]));
                    o = sigmoid(o);
                    new[j] = mul(o, tanh_(c[j]));
                    s[j] = i, s[H + j] = f, s[2 * H + j] = g, s[3 * H + j] = o, s[4 * H + j] = c[j];
                    break;
                case MG_GRU:
                    r = sigmoid(add(a_[0], e_[0])), z = sigmoid(add(a_[H], e_[H]));
                    n = tanh_(add(a_[2 * H], mul(r, e_[2 * H])));
                    new[j] = add(mul(sub(1, z), n), mul(z, h[j]));
                    s[j] = r, s[H + j] = z, s[2 * H + j] = n, s[3 * H + j] = e_[2 * H];
                    break;
                case MG_GRU_BEFORE:
                    s[j] = sigmoid(add(a_[0], e_[0])), s[H + j] = sigmoid(add(a_[H], e_[H]));
                    rh[j] = mul(s[j], h[j]);
                    break;
                case MG_RNN_TANH: new[j] = tanh_(add(e[j], a[j])); break;
                case MG_RNN_RELU: new[j] = relu(add(e[j], a[j])); break;
                }
            }
            for (int64_t j = 0; j < H && cell == MG_GRU_BEFORE; j++) {
                const double z = s[H + j], n = tanh_(add(a[2 * H + j], chain(b_v[j], H, rh, v + j * H, 1)));
                new[j] = add(mul(sub(1, z), n), mul(z, h[j]));
                s[2 * H + j] = n;
            }
            memcpy(h, new, (size_t)H * sizeof *h);
            memcpy(y + (t * N + row) * H, new, (size_t)H * sizeof *h);
        }
    give(y_, T * N * H, y), give(saved_, T * N * S * H, saved);
    give(h_last, N * H, state), give(c_last, N * H, state_c);
    end_call();
}

void ref_recurrent_backward(int d, int cell, int64_t T, int64_t N, int64_t H,
                            const void *u_, const void *v_, const void *p_,
                            const void *h0_, const void *c0_, const int64_t *lengths,
                            const void *y_, const void *saved_,
                            const void *dy_, const void *dh_last, const void *dc_last,
                            void *dz_, void *dz_h, void *dh0, void *dc0)
{
    type = d;
    const int G = ref_cells[cell].gates, G_u = ref_cells[cell].recurrent, S = ref_cells[cell].saved;
    const double *u = doubles(u_, G_u * H * H), *v = doubles(v_, H * H), *p = doubles(p_, 3 * H);
    const double *h0 = doubles(h0_, N * H), *c0 = doubles(c0_, N * H), *y = doubles(y_, T * N * H);
    const double *saved = doubles(saved_, T * N * S * H), *dy = doubles(dy_, T * N * H);
    double *state_dh = doubles(dh_last, N * H), *state_dc = doubles(dc_last, N * H);
    double *all_dz = doubles(NULL, T * N * G * H), *all_de = doubles(NULL, T * N * G_u * H);

    for (int64_t t = T - 1; t >= 0; t--)
        for (int64_t row = 0; row < N; row++) {
            if (lengths && t >= lengths[row]) continue;
            const int64_t at = t * N + row, before = at - N;
            const double *h = t ? y + before * H : h0 + row * H, *s = saved + at * S * H;
            const double *c = t && S == 5 ? saved + (before * S + 4) * H : c0 + row * H; /* the LSTM's */
            double *dh = state_dh + row * H, *dc = state_dc + row * H;
            double *dz = all_dz + at * G * H, *de = all_de + at * G_u * H;
            for (int64_t j = 0; j < H; j++) {
                const double dh_ = add(dy[at * H + j], dh[j]); /* of h' */
                double i, f, g, o, r, z, n, tc, dc_;
                switch (cell) {
                case MG_LSTM:
                case MG_LSTM_SIGMOID:
                    i = s[j], f = s[H + j], g = s[2 * H + j], o = s[3 * H + j], tc = tanh_(s[4 * H + j]);
                    dz[3 * H + j] = sigmoid_rule(mul(dh_, tc), o);
                    dc_ = add(dc[j], mul(mul(dh_, o), sub(1, mul(tc, tc))));
                    if (p_) dc_ = add(dc_, mul(dz[3 * H + j], p[2 * H + j]));
                    dz[j] = sigmoid_rule(mul(dc_, g), i);
                    dz[H + j] = sigmoid_rule(mul(dc_, c[j]), f);
                    dz[2 * H + j] = (cell == MG_LSTM ? tanh_rule : sigmoid_rule)(mul(dc_, i), g);
                    dc[j] = mul(dc_, f);
                    if (p_) dc[j] = add(add(dc[j], mul(dz[H + j], p[H + j])), mul(dz[j], p[j]));
                    break;
                case MG_GRU:
                case MG_GRU_BEFORE:
                    r = s[j], z = s[H + j], n = s[2 * H + j];
                    dz[H + j] = sigmoid_rule(sub(mul(dh_, h[j]), mul(dh_, n)), z);
                    dz[2 * H + j] = tanh_rule(mul(dh_, sub(1, z)), n);
                    dh[j] = mul(dh_, z);
                    if (cell == MG_GRU_BEFORE) break;
                    dz[j] = sigmoid_rule(mul(dz[2 * H + j], s[3 * H + j]), r);
                    de[j] = dz[j], de[H + j] = dz[H + j], de[2 * H + j] = mul(dz[2 * H + j], r);
                    break;
                case MG_RNN_TANH: dz[j] = tanh_rule(dh_, y[at * H + j]); break;
                case MG_RNN_RELU: dz[j] = relu_rule(dh_, y[at * H + j]); break;
                }
            }
            for (int64_t j = 0; j < H && cell == MG_GRU_BEFORE; j++) {
                const double r = s[j], d_rh = chain(0, H, dz + 2 * H, v + j, H);
                dz[j] = sigmoid_rule(mul(d_rh, h[j]), r);
                dh[j] = add(dh[j], mul(d_rh, r));
            }
            for (int64_t j = 0; j < H; j++) {
                const double sum = chain(0, G_u * H, cell == MG_GRU ? de : dz, u + j, H);
                dh[j] = cell == MG_GRU || cell == MG_GRU_BEFORE ? add(dh[j], sum) : sum;
            }
        }
    give(dz_, T * N * G * H, all_dz), give(dz_h, T * N * G_u * H, all_de);
    give(dh0, N * H, state_dh), give(dc0, N * H, state_dc);
    end_call();
}

void ref_scatter_rows(int d, int64_t n, int64_t width, const int64_t *index, const void *g, void *out)
{
    type = d;
    for (int64_t r = 0; r < n; r++)
        for (int64_t j = 0; j < width; j++) {
            const int64_t to = index[r] * width + j;
            set(d, out, to, add(get(d, out, to), get(d, g, r * width + j)));
        }
}
