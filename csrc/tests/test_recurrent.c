/* mg_recurrent_forward and mg_recurrent_backward against the plain recurrence, to the bit: every cell, with and
 * without peepholes, odd sizes, ragged rows with NaN in the padding, inference, arrays shared between input and
 * output, every instruction set, and both divisions among threads. */
#include "check.h"
#include "ref.h"

#include <dirent.h>
#include <sys/wait.h>

/* What is checked: a cell, perhaps with peepholes. */
enum { VARIANTS = 8 };
static const struct variant { int cell, peepholes; } variants[VARIANTS] = {
    {MG_LSTM, 0}, {MG_LSTM, 1}, {MG_LSTM_SIGMOID, 0}, {MG_LSTM_SIGMOID, 1},
    {MG_GRU, 0}, {MG_GRU_BEFORE, 0}, {MG_RNN_TANH, 0}, {MG_RNN_RELU, 0},
};

static int cases, in_threads;

/* Weights for sums of n products that neither saturate a gate nor let a relu explode; or none. */
static void *weights(int dtype, int64_t rows, int64_t n)
{
    void *w = numbers(dtype, rows * n);
    for (int64_t i = 0; i < rows * n && n > 2; i++) set(dtype, w, i, get(dtype, w, i) * 2 / sqrt((double)n));
    return w;
}
static void negative_zeros(int dtype, void *p, int64_t n)
{
    for (int64_t i = 0; i < n && p; i++) set(dtype, p, i, -0.0);
}
static void positive(int dtype, void *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) set(dtype, p, i, fabs(get(dtype, p, i)));
}
static void *nothing_or(int dtype, int64_t n) { return below(3) ? numbers(dtype, n) : NULL; }

/* Rows of 0 to T steps, at times the longest first; what no one may look at becomes NaN. */
static int64_t *ragged(int dtype, int64_t T, int64_t N, int64_t I, void *x, void *dy, int64_t H)
{
    int64_t *lengths = guarded(N * (int64_t)sizeof *lengths);
    const int sorted = below(2) == 0;
    for (int64_t r = 0; r < N; r++) {
        int64_t length = below(4) ? below(T + 1) : below(2) ? 0 : T + below(2), at = r;
        for (; sorted && at > 0 && lengths[at - 1] < length; at--) lengths[at] = lengths[at - 1];
        lengths[at] = length;
    }
    for (int64_t t = 0; t < T; t++)
        for (int64_t r = 0; r < N; r++) {
            if (t < lengths[r]) continue;
            for (int64_t i = 0; i < I; i++) set(dtype, x, (t * N + r) * I + i, NAN);
            for (int64_t j = 0; j < H && dy; j++) set(dtype, dy, (t * N + r) * H + j, NAN);
        }
    return lengths;
}

static void check_layer(int dtype, struct variant variant, int64_t T, int64_t N, int64_t I, int64_t H, int threads)
{
    const int cell = variant.cell;
    const struct ref_cell k = ref_cells[cell];
    const int64_t state = N * H, steps = T * N * H, n_saved = k.saved * steps, n_dz = k.gates * steps;
    void *x = numbers(dtype, T * N * I), *w = weights(dtype, k.gates * H, I);
    void *u = weights(dtype, k.recurrent * H, H), *v = k.second ? weights(dtype, H, H) : NULL;
    void *p = variant.peepholes ? numbers(dtype, 3 * H) : NULL;
    void *b_x = nothing_or(dtype, k.gates * H); /* no bias is one of zeros */
    void *b_h = k.b_h ? nothing_or(dtype, k.recurrent * H) : NULL, *b_v = k.second ? nothing_or(dtype, H) : NULL;
    void *h0 = numbers(dtype, state), *c0 = k.c ? numbers(dtype, state) : NULL;
    void *dy = nothing_or(dtype, steps), *dh_last = nothing_or(dtype, state);
    void *dc_last = k.c ? nothing_or(dtype, state) : NULL;
    if (dh_last && state > 0) set(dtype, dh_last, below(state), -0.0); /* +0 once dy is added */
    if (T * N * I > 0 && below(8) == 0) set(dtype, x, below(T * N * I), NAN); /* the matter of one row */
    if (below(8) == 0) { /* sums of nothing but -0 */
        positive(dtype, w, k.gates * H * I), positive(dtype, u, k.recurrent * H * H);
        negative_zeros(dtype, b_x, k.gates * H), negative_zeros(dtype, b_h, k.recurrent * H);
        negative_zeros(dtype, h0, state), negative_zeros(dtype, x, T * N * I);
    }
    const int64_t *lengths = below(2) ? ragged(dtype, T, N, I, x, dy, H) : NULL;

    void *y = poisoned(dtype, steps), *h = poisoned(dtype, state), *c = k.c ? poisoned(dtype, state) : NULL;
    void *saved = k.saved ? poisoned(dtype, n_saved) : NULL;
    void *dz = poisoned(dtype, n_dz), *dz_h = k.dz_h ? poisoned(dtype, n_dz) : NULL;
    void *dh0 = poisoned(dtype, state), *dc0 = k.c ? poisoned(dtype, state) : NULL;
    ref_recurrent_forward(dtype, cell, T, N, I, H, x, w, u, v, b_x, b_h, b_v, p, h0, c0, lengths, y, h, c, saved);
    ref_recurrent_backward(dtype, cell, T, N, H, u, v, p, h0, c0, lengths, y, saved, dy, dh_last, dc_last,
                           dz, dz_h, dh0, dc0);
    seal();

    /* Scratch begins at any address, is enough for each instruction set, and holds what would be seen. */
    const int64_t bytes = mg_recurrent_scratch(dtype, cell, T, N, I, H), odd = below(2);
    const int64_t bytes_back = mg_recurrent_scratch(dtype, cell, T, N, 0, H);
    void *scratch = guarded(bytes + odd), *scratch_back = guarded(bytes_back + odd);

#define SAME(what, n, got, want)                                                                              \
    do {                                                                                                      \
        const int64_t i_ = got ? difference(dtype, n, got, want) : -1;                                        \
        CHECK(i_ < 0, "%s%s %s %s threads %d T %d N %d I %d H %d lengths %s: %s[%d] is %.17g, not %.17g",     \
              k.name, p ? " with peepholes" : "", name, dtype_names[dtype], threads, (int)T, (int)N, (int)I,  \
              (int)H, lengths ? "ragged" : "none", what, (int)i_, get(dtype, got, i_), get(dtype, want, i_)); \
    } while (0)
#define OUTPUT_OVER(input) (!(input) || below(2) ? poisoned(dtype, state) : copied(dtype, state, input))
#define IN_PLACE(input, output) ((input) && difference(dtype, state, input, output) < 0 ? (output) : (input))
    FOR_EACH_ISA(name) {
        mg_set_threads(threads);
        for (int inference = 1; inference >= 0; inference--) {
            void *y_ = poisoned(dtype, steps), *saved_ = inference || !k.saved ? NULL : poisoned(dtype, n_saved);
            void *h_ = OUTPUT_OVER(h0), *c_ = k.c ? OUTPUT_OVER(c0) : NULL;
            memset(scratch, 0xff, (size_t)(bytes + odd));
            mg_recurrent_forward(dtype, cell, T, N, I, H, x, w, u, v, b_x, b_h, b_v, p, IN_PLACE(h0, h_),
                                 IN_PLACE(c0, c_), lengths, y_, h_, c_, saved_, (char *)scratch + odd);
            SAME("y", steps, y_, y);
            SAME("h_last", state, h_, h);
            SAME("c_last", state, c_, c);
            SAME("saved", n_saved, saved_, saved);
        }
        void *dz_ = poisoned(dtype, n_dz), *dz_h_ = k.dz_h ? poisoned(dtype, n_dz) : NULL;
        void *dh_ = OUTPUT_OVER(dh_last), *dc_ = k.c ? OUTPUT_OVER(dc_last) : NULL;
        memset(scratch_back, 0xff, (size_t)(bytes_back + odd));
        mg_recurrent_backward(dtype, cell, T, N, H, u, v, p, h0, c0, lengths, y, saved, dy, IN_PLACE(dh_last, dh_),
                              IN_PLACE(dc_last, dc_), dz_, dz_h_, dh_, dc_, (char *)scratch_back + odd);
        SAME("dz", n_dz, dz_, dz);
        SAME("dz_h", n_dz, dz_h_, dz_h);
        SAME("dh0", state, dh_, dh0);
        SAME("dc0", state, dc_, dc0);
    }
    release();
    cases++;
}

/* Threads of this process, or 0 where nobody says. */
static int count_threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return 0;
    for (struct dirent *entry; (entry = readdir(tasks));) n += entry->d_name[0] != '.';
    closedir(tasks);
    return n;
}

/* A layer on several threads: in a child of fork, where none has been made before, and at the end there must be as
 * many as were asked for. T is as long as it takes to be worth them: MG_GRAIN FMAs for each, in the backward pass.
 * (Emulators of other machines cannot make a thread in such a child; there nothing is counted.) */
static void check_threads(int dtype, struct variant variant, int64_t N, int64_t I, int64_t H, int threads)
{
    const struct ref_cell k = ref_cells[variant.cell];
    const int64_t T = threads * 1000000 / (N * H * H * (k.recurrent + k.second)) + 1;
    const char *emulated = getenv("MG_TEST_EMULATED");
    random_bits();
    if (emulated && *emulated) {
        check_layer(dtype, variant, T, N, I, H, threads);
    } else {
        fflush(stdout);
        const pid_t child = fork();
        CHECK(child >= 0, "no fork");
        if (child == 0) {
            check_layer(dtype, variant, T, N, I, H, threads);
            const int n = count_threads();
            CHECK(n == threads || n == 0, "%s %s T %d N %d H %d: %d threads instead of %d", k.name,
                  dtype_names[dtype], (int)T, (int)N, (int)H, n, threads);
            fflush(stdout);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the layer on %d threads failed: status %d", threads,
              status);
    }
    in_threads++;
}

int main(void)
{
    for (int dtype = 0; dtype < 2; dtype++)
        for (int i = 0; i < VARIANTS; i++) {
            const struct variant it = variants[i];
            const struct ref_cell k = ref_cells[it.cell];
            for (int n = 0; n < 40; n++)
                check_layer(dtype, it, ONE_OF(0, 1, 1, 2, 3, 7), ONE_OF(0, 1, 1, 2, 3, 5, 6, 7, 8, 13),
                            ONE_OF(0, 1, 3, 8, 17), ONE_OF(0, 1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 33), ONE_OF(1, 3));
            check_layer(dtype, it, 3, 3, 10, ONE_OF(63, 64, 65, 70), 1); /* panels of the widest vectors */
            check_layer(dtype, it, 200, 1, 5, 9, 1);                    /* several chunks of steps, of one row, */
            check_layer(dtype, it, 30, 13, 2, 5, 1);                    /* of tiles over several steps, */
            check_layer(dtype, it, 7, 40, 2, 5, 1);                     /* of two steps */
            check_layer(dtype, it, 2, 200, 3, 5, 1);                    /* several groups of rows */

            /* On threads. By units: of 2*threads - 1 rows none but a division by units makes so many parts, for
             * those by rows have two rows each; N*H*H >= 5*MG_UNIT_GRAIN. By rows: of 12*threads
             * rows (MG_FEW_ROWS), whose weights the caches hold; where LANES is 16, 33 units are too few blocks for a
             * division by units to make so many parts. */
            for (int threads = 2; threads <= 5; threads += threads - 1) {
                check_threads(dtype, it, 3, 1 + below(9), 170 + below(30), threads);
                check_threads(dtype, it, 12 * threads + below(3), 1 + below(9), 33, threads);
            }
            /* Groups of rows within the share of a thread. */
            check_threads(dtype, it, 203, 3, 33, 2);
            /* By units with many rows: more than MG_MANY_WEIGHTS bytes. */
            const double bytes = (double)dtype_size(dtype) * (k.recurrent + k.second);
            check_threads(dtype, it, 24 + below(3), 5, (int64_t)sqrt(614400 / bytes) + 1 + below(5), 2);
        }
    for (int dtype = 0; dtype < 2; dtype++) /* and several groups of them */
        check_threads(dtype, (struct variant){MG_GRU_BEFORE, 0}, 100, 5, dtype ? 163 : 229, 3);
    printf("%d sequences forward and backward and %d on threads, equal to the bit on %s\n", cases, in_threads,
           mg_isas());
    return 0;
}
