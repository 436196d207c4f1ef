/* mg_lstm_forward and mg_lstm_backward against the plain recurrence, to the bit: odd sizes, ragged rows with
 * NaN in the padding, inference, arrays shared between input and output, every instruction set, several
 * threads. */
#include "check.h"
#include "ref.h"

static int cases;

static void *nothing_or(int dtype, int64_t n) { return below(3) ? numbers(dtype, n) : NULL; }

/* Rows of 0 to T steps; what no one may look at becomes NaN. */
static int64_t *ragged(int dtype, int64_t T, int64_t N, int64_t width, void *x, void *dy, int64_t H)
{
    int64_t *lengths = guarded(N * (int64_t)sizeof *lengths);
    for (int64_t r = 0; r < N; r++) lengths[r] = below(4) ? below(T + 1) : below(2) ? 0 : T;
    for (int64_t t = 0; t < T; t++)
        for (int64_t r = 0; r < N; r++) {
            if (t < lengths[r]) continue;
            for (int64_t i = 0; i < width; i++) set(dtype, x, (t * N + r) * width + i, NAN);
            for (int64_t j = 0; j < H && dy; j++) set(dtype, dy, (t * N + r) * H + j, NAN);
        }
    return lengths;
}

static void check_lstm(int dtype, int64_t T, int64_t N, int64_t I, int64_t H, int most_threads)
{
    const int64_t state = N * H, steps = T * N * H;
    void *x = numbers(dtype, T * N * I), *w = numbers(dtype, 4 * H * I), *u = numbers(dtype, 4 * H * H);
    void *b = numbers(dtype, 4 * H), *h0 = numbers(dtype, state), *c0 = numbers(dtype, state);
    void *dy = nothing_or(dtype, steps);
    void *dh_last = nothing_or(dtype, state), *dc_last = nothing_or(dtype, state);
    if (dh_last && state > 0) set(dtype, dh_last, below(state), -0.0); /* +0 once dy is added */
    const int64_t *lengths = below(2) ? ragged(dtype, T, N, I, x, dy, H) : NULL;

    void *y = poisoned(dtype, steps), *h = poisoned(dtype, state), *c = poisoned(dtype, state);
    void *gates = poisoned(dtype, 4 * steps), *cells = poisoned(dtype, steps);
    void *dz = poisoned(dtype, 4 * steps), *dh0 = poisoned(dtype, state), *dc0 = poisoned(dtype, state);
    ref_lstm_forward(dtype, T, N, I, H, x, w, u, b, h0, c0, lengths, y, h, c, gates, cells);
    ref_lstm_backward(dtype, T, N, H, u, c0, lengths, gates, cells, dy, dh_last, dc_last, dz, dh0, dc0);
    void *scratch = guarded(mg_lstm_scratch(dtype, T, N, I, H));

#define SAME(what, n, got, want)                                                                       \
    do {                                                                                               \
        const int64_t i_ = difference(dtype, n, got, want);                                            \
        CHECK(i_ < 0, "%s %s threads %d T %d N %d I %d H %d lengths %s: %s[%d] is %.17g, not %.17g",   \
              name, dtype_names[dtype], threads, (int)T, (int)N, (int)I, (int)H,                       \
              lengths ? "ragged" : "none", what, (int)i_, get(dtype, got, i_), get(dtype, want, i_));  \
    } while (0)
    FOR_EACH_ISA(name) {
        for (int threads = 1; threads <= most_threads; threads++) {
            mg_set_threads(threads);
            for (int inference = 0; inference < 2; inference++) {
                void *y_ = poisoned(dtype, steps);
                void *h_ = inference ? copied(dtype, state, h0) : poisoned(dtype, state);
                void *c_ = inference ? copied(dtype, state, c0) : poisoned(dtype, state);
                void *gates_ = inference ? NULL : poisoned(dtype, 4 * steps);
                void *cells_ = inference ? NULL : poisoned(dtype, steps);
                mg_lstm_forward(dtype, T, N, I, H, x, w, u, b,
                                inference ? h_ : h0, inference ? c_ : c0, lengths,
                                y_, h_, c_, gates_, cells_, scratch);
                SAME("y", steps, y_, y);
                SAME("h_last", state, h_, h);
                SAME("c_last", state, c_, c);
                if (inference) continue;
                SAME("gates", 4 * steps, gates_, gates);
                SAME("cells", steps, cells_, cells);
            }
            const int in_place = threads % 2 == 0;
            void *dz_ = poisoned(dtype, 4 * steps);
            void *dh_ = in_place && dh_last ? copied(dtype, state, dh_last) : poisoned(dtype, state);
            void *dc_ = in_place && dc_last ? copied(dtype, state, dc_last) : poisoned(dtype, state);
            mg_lstm_backward(dtype, T, N, H, u, c0, lengths, gates, cells, dy,
                             in_place && dh_last ? dh_ : dh_last, in_place && dc_last ? dc_ : dc_last,
                             dz_, dh_, dc_, scratch);
            SAME("dz", 4 * steps, dz_, dz);
            SAME("dh0", state, dh_, dh0);
            SAME("dc0", state, dc_, dc0);
        }
    }
    release();
    cases++;
}

int main(void)
{
    for (int dtype = 0; dtype < 2; dtype++) {
        for (int i = 0; i < 60; i++)
            check_lstm(dtype, ONE_OF(0, 1, 1, 2, 3, 7), ONE_OF(0, 1, 1, 2, 3, 5, 6, 7, 8, 13),
                       ONE_OF(0, 1, 3, 8, 17), ONE_OF(0, 1, 2, 4, 7, 8, 9, 15, 16, 17), 1);
        check_lstm(dtype, 40, 1, 5, 9, 1);    /* several chunks of one row */
        check_lstm(dtype, 3, 3, 10, 70, 1);   /* two panels of dh */
        check_lstm(dtype, 2, 200, 3, 5, 1);   /* several groups of rows */
        for (int i = 0; i < 4; i++)           /* enough work for threads */
            check_lstm(dtype, 12, 19, 21, 112 + (dtype ? 5 : 0), 3);
    }
    printf("%d sequences forward and backward, equal to the bit on %s\n", cases, mg_isas());
    return 0;
}
