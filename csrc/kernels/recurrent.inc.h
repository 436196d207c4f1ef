/* A recurrent layer over a whole sequence: everything but the gates. The driver walks through time, forms the
 * products and hands each finished tile to a cell function, its epilogue, which alone knows what the gates
 * mean.
 *
 * The unit block. LANES neighbouring hidden units are computed together. Each unit has four slots (for the
 * LSTM i f g o), so a panel of weights is [k][4 slots][LANES]: a tile of rows x one unit block holds all that
 * the cell needs, and the cell runs while the tile is in the nearest cache. The weights are brought into this
 * form once per call. Units beyond H have weights 0 and are never stored.
 *
 * Threads. Rows do not meet, so each thread takes some rows through the whole sequence and meets no other. */

#ifndef MG_GROUP
#define MG_GROUP 96 /* rows that go together through the sequence: each panel of weights serves them all */

/* The input part of z is formed for several steps before the recurrence walks through them, so that a small
 * batch too reads a panel of w once for many rows; not for more than the second-level cache holds. */
MG_INLINE int64_t chunk_steps(int64_t T, int64_t N, int64_t H)
{
    const int64_t rows = larger(12, smaller(MG_GROUP, 8192 / larger(H, 1)));
    return larger(1, smaller(T, rows / larger(N, 1)));
}

/* The first step at which none of the rows is active. */
MG_INLINE int64_t longest(const int64_t *lengths, int64_t from, int64_t to, int64_t T)
{
    int64_t most = lengths ? 0 : T;
    if (lengths)
        for (int64_t r = from; r < to; r++) most = larger(most, lengths[r]);
    return smaller(most, T);
}

/* Rows to divide among threads. Below two rows each, a thread's FMAs wait for one another. */
MG_INLINE int row_parts(int64_t N, int64_t fmas)
{
    return (int)smaller(mg_threads(), worthy_parts(fmas, N / 2));
}
#endif

struct MG_NAME(sequence) {
    int64_t T, N, I, H;
    const int64_t *lengths;
    const REAL *x, *w, *u, *b, *h0, *c0;
    REAL *y, *gates, *cells;
    REAL *h, *c;                               /* the last state; c is kept up to date on the way */
    const REAL *dy;
    REAL *dz, *dh, *dc;                        /* dh, dc: the cotangents of the state on their way back */
    int64_t steps;                             /* of one chunk */
    REAL *w_panels, *u_panels, *b_panels, *z;  /* z [unit block][step of the chunk][row][4][LANES] */
};

/* What a cell function sees: `rows` x `units` of one step. Arrays begin at the tile's corner; the next row
 * lies `width` (= H) elements further, in gates and dz 4*width, and slot s lies s*width behind slot 0. Where
 * a row is not active, the forward function stores zeros and leaves c, the backward function stores dz = 0
 * and leaves dc. */
struct MG_NAME(cell_tile) {
    int rows, units; /* units <= LANES */
    int64_t width, t;
    const int64_t *lengths; /* of these rows, or NULL */
    REAL *y, *gates, *cells; /* h; what the backward pass wants to know, NULL when there will be none */
    const REAL *z;           /* forward: [rows][4][LANES], the sums of the slots */
    REAL *c;                 /* forward: the state beside h, in and out */
    const REAL *c_prev, *dy, *dh; /* backward: c before this step, cotangents of y (or NULL) and of h */
    REAL *dc, *dz;                /* backward: cotangent of c, in and out; that of z, out */
};

MG_INLINE int MG_NAME(is_active)(const struct MG_NAME(cell_tile) *tile, int row)
{
    return !tile->lengths || tile->t < tile->lengths[row] + MG_BUG(206);
}

MG_INLINE VEC MG_NAME(load_units)(const REAL *p, int n) { return n == LANES ? v_load(p) : v_load_n(p, n); }

MG_INLINE void MG_NAME(store_units)(REAL *p, VEC v, int n)
{
    if (n == LANES) v_store(p, v);
    else v_store_n(p, v, n);
}

/* ---- Forward ---- */

static void MG_NAME(pack_forward)(void *ctx, int part, int parts)
{
    const struct MG_NAME(sequence) *s = ctx;
    const int64_t I = s->I, H = s->H;
    for (int64_t unit = part * LANES; unit < H; unit += parts * LANES) {
        const int units = (int)smaller(LANES, H - unit);
        for (int slot = 0; slot < 4; slot++) {
            const int64_t gate = (MG_BUG(202) ? slot ^ 1 : slot) * H + unit, to = unit * 4, lane = slot * LANES;
            MG_NAME(pack_strip)(I, units, s->w + gate * I, 1, I, s->w_panels + to * I + lane, MG_WIDTH);
            MG_NAME(pack_strip)(H, units, s->u + gate * H, 1, H, s->u_panels + to * H + lane, MG_WIDTH);
            MG_NAME(pack_strip)(1, units, s->b + gate, 0, 1, s->b_panels + to + lane, MG_WIDTH);
        }
    }
}

/* z = b + x w^T for the rows from..to-1 of steps t0..t1-1. */
static void MG_NAME(project)(const struct MG_NAME(sequence) *s, int64_t from, int64_t to,
                             int64_t t0, int64_t t1)
{
    const int64_t N = s->N, I = s->I;
    /* With all rows of the batch the steps lie end to end, and a tile may span several. */
    const int64_t runs = to - from == N ? 1 : t1 - t0, run = to - from == N ? (t1 - t0) * N : to - from;
    for (int64_t unit = 0; unit < s->H; unit += LANES) {
        const REAL *bias = s->b_panels + unit * 4;
        for (int64_t q = 0; q < runs; q++)
            for (int64_t i = 0, m; i < run; i += m) {
                m = tile_rows(run - i);
                const int64_t row = q * N + from + i;
                REAL *z = s->z + (unit / LANES * s->steps * N + row) * MG_WIDTH;
                MG_NAME(tile)((int)m, 4, I, s->x + ((MG_BUG(215) ? 0 : t0) * N + row) * I, I, 1,
                              s->w_panels + unit * 4 * I, MG_WIDTH, bias, 0, z, MG_WIDTH);
            }
    }
}

/* Step t: z += h u^T and the cell, for the rows from..to-1. z begins with this step. */
MG_INLINE void MG_NAME(step)(const struct MG_NAME(sequence) *s, int64_t from, int64_t to, int64_t t, REAL *z,
                             void (*cell)(const struct MG_NAME(cell_tile) *))
{
    const int64_t N = s->N, H = s->H;
    /* A row that is active now was active before, so its h is the last y. */
    const REAL *h = t ? s->y + (t - 1) * N * H : s->h0;
    for (int64_t unit = 0; unit < H; unit += LANES, z += s->steps * N * MG_WIDTH)
        for (int64_t i = from, m; i < to; i += m) {
            m = tile_rows(to - i);
            if (t < longest(s->lengths, i, i + m, s->T))
                MG_NAME(tile)((int)m, 4, H, h + i * H, H, 1, s->u_panels + unit * 4 * H, MG_WIDTH,
                              z + i * MG_WIDTH, MG_WIDTH, z + i * MG_WIDTH, MG_WIDTH);
            const int64_t at = (t * N + i) * H + unit;
            cell(&(struct MG_NAME(cell_tile)){
                .rows = (int)m, .units = (int)smaller(LANES, H - unit), .width = H, .t = t,
                .lengths = s->lengths ? s->lengths + i : NULL,
                .y = s->y + at,
                .gates = s->gates ? s->gates + (t * N + i) * 4 * H + unit : NULL,
                .cells = s->cells ? s->cells + at : NULL,
                .z = z + i * MG_WIDTH,
                .c = s->c + i * H + unit,
            });
        }
}

/* The whole sequence for the rows from..to-1. */
MG_INLINE void MG_NAME(forward_rows)(const struct MG_NAME(sequence) *s, int64_t from, int64_t to,
                                     void (*cell)(const struct MG_NAME(cell_tile) *))
{
    const int64_t N = s->N, H = s->H, end = longest(s->lengths, from, to, s->T);
    const size_t row = (size_t)H * sizeof(REAL), rows = (size_t)(to - from) * row;
    memmove(s->c + from * H, s->c0 + from * H, rows);
    for (int64_t t0 = 0; t0 < end; t0 += s->steps) {
        const int64_t t1 = smaller(t0 + s->steps, end);
        MG_NAME(project)(s, from, to, t0, t1);
        for (int64_t t = t0; t < t1; t++)
            MG_NAME(step)(s, from, to, t, s->z + (t - t0) * N * MG_WIDTH, cell);
    }
    for (int64_t t = end; t < s->T; t++) {
        memset(s->y + (t * N + from) * H, 0, rows);
        if (s->gates) memset(s->gates + (t * N + from) * 4 * H, 0, 4 * rows);
        if (s->cells) memset(s->cells + (t * N + from) * H, 0, rows);
    }
    for (int64_t r = from; r < to; r++) {
        const int64_t length = longest(s->lengths, r, r + 1, s->T);
        memmove(s->h + r * H, length > 0 ? s->y + ((length - 1) * N + r) * H : s->h0 + r * H, row);
    }
}

/* ---- Backward ---- */

static void MG_NAME(pack_backward)(void *ctx, int part, int parts)
{
    const struct MG_NAME(sequence) *s = ctx;
    const int64_t H = s->H;
    for (int64_t j = part * MG_WIDTH; j < H; j += parts * MG_WIDTH)
        MG_NAME(pack_panel)(4 * H, smaller(MG_WIDTH, H - j), s->u + j, H, 1, s->u_panels + j * 4 * H, MG_WIDTH);
}

/* Step t for the rows from..to-1: dz and dc from the cell, then dh = dz u. */
MG_INLINE void MG_NAME(step_back)(const struct MG_NAME(sequence) *s, int64_t from, int64_t to, int64_t t,
                                  void (*cell)(const struct MG_NAME(cell_tile) *))
{
    const int64_t N = s->N, H = s->H;
    REAL *dz = s->dz + t * N * 4 * H;
    const REAL *c_prev = t ? s->cells + (t - 1) * N * H : s->c0;
    for (int64_t i = from, m; i < to; i += m) {
        m = tile_rows(to - i);
        for (int64_t unit = 0; unit < H; unit += LANES) {
            const int64_t at = (t * N + i) * H + unit, in_row = i * H + unit;
            cell(&(struct MG_NAME(cell_tile)){
                .rows = (int)m, .units = (int)smaller(LANES, H - unit), .width = H, .t = t,
                .lengths = s->lengths ? s->lengths + i : NULL,
                .gates = s->gates + (t * N + i) * 4 * H + unit,
                .cells = s->cells + at,
                .c_prev = c_prev + in_row,
                .dy = s->dy ? s->dy + at : NULL,
                .dh = s->dh + in_row, .dc = s->dc + in_row,
                .dz = dz + i * 4 * H + unit,
            });
        }
    }
    if (MG_BUG(204) && t == 0) return;
    for (int64_t j = 0; j < H; j += MG_WIDTH) {
        const int64_t cols = smaller(MG_WIDTH, H - j);
        for (int64_t i = from, m; i < to; i += m) {
            m = tile_rows(to - i);
            if (t >= longest(s->lengths, i, i + m, s->T)) continue;
            _Alignas(64) REAL sum[MG_MR * MG_WIDTH];
            MG_NAME(tile)((int)m, (int)pieces(cols, LANES), 4 * H, dz + i * 4 * H, 4 * H, 1,
                          s->u_panels + j * 4 * H, MG_WIDTH, NULL, 0, sum, MG_WIDTH);
            for (int64_t r = 0; r < m; r++)
                if (!s->lengths || t < s->lengths[i + r] || MG_BUG(210))
                    memcpy(s->dh + (i + r) * H + j, sum + r * MG_WIDTH, (size_t)cols * sizeof(REAL));
        }
    }
}

/* The whole sequence for the rows from..to-1; dh and dc hold the cotangents of the last state. */
MG_INLINE void MG_NAME(backward_rows)(const struct MG_NAME(sequence) *s, int64_t from, int64_t to,
                                      void (*cell)(const struct MG_NAME(cell_tile) *))
{
    const int64_t end = longest(s->lengths, from, to, s->T), row = 4 * s->H;
    for (int64_t t = s->T - 1; t >= end; t--)
        memset(s->dz + (t * s->N + from) * row, 0, (size_t)((to - from) * row) * sizeof(REAL));
    for (int64_t t = end - 1; t >= 0; t--) MG_NAME(step_back)(s, from, to, t, cell);
}

/* ---- Threads and scratch ---- */

/* One thread's rows, in groups that go through the sequence one after the other. */
MG_INLINE void MG_NAME(row_part)(const struct MG_NAME(sequence) *s, int part, int parts,
                                 void (*cell)(const struct MG_NAME(cell_tile) *), int backward)
{
    const int64_t first = s->N * part / parts, last = s->N * (part + 1) / parts - (MG_BUG(214) && parts > 1);
    const int64_t groups = pieces(last - first, MG_GROUP);
    for (int64_t g = 0; g < groups; g++) {
        const int64_t from = first + (last - first) * g / groups;
        const int64_t to = first + (last - first) * (g + 1) / groups;
        if (backward) MG_NAME(backward_rows)(s, from, to, cell);
        else MG_NAME(forward_rows)(s, from, to, cell);
    }
}

/* Elements of scratch: the packed weights and z, or the packed u of the backward pass. */
MG_INLINE int64_t MG_NAME(sequence_scratch)(int64_t T, int64_t N, int64_t I, int64_t H)
{
    const int64_t units = pieces(H, LANES) * LANES;
    return larger(units * 4 * (I + H + 1 + chunk_steps(T, N, H) * N), pieces(H, MG_WIDTH) * MG_WIDTH * 4 * H);
}

static void MG_NAME(run_forward)(struct MG_NAME(sequence) *s, void *scratch, void (*part)(void *, int, int))
{
    const int64_t units = pieces(s->H, LANES) * LANES;
    s->steps = chunk_steps(s->T, s->N, s->H);
    s->w_panels = MG_NAME(aligned)(scratch);
    s->u_panels = s->w_panels + units * 4 * s->I;
    s->b_panels = s->u_panels + units * 4 * s->H;
    s->z = s->b_panels + units * 4;
    const int parts = row_parts(s->N, s->T * s->N * (s->I + s->H) * 4 * s->H);
    mg_parallel(parts, MG_NAME(pack_forward), s);
    mg_parallel(parts, part, s);
}

static void MG_NAME(run_backward)(struct MG_NAME(sequence) *s, const REAL *dh_last, const REAL *dc_last,
                                  void *scratch, void (*part)(void *, int, int))
{
    const size_t state = (size_t)(s->N * s->H) * sizeof(REAL);
    if (dh_last) memmove(s->dh, dh_last, state);
    else memset(s->dh, 0, state);
    if (dc_last && !MG_BUG(203)) memmove(s->dc, dc_last, state);
    else memset(s->dc, 0, state);
    s->u_panels = MG_NAME(aligned)(scratch);
    const int parts = row_parts(s->N, s->T * s->N * s->H * 4 * s->H);
    mg_parallel(parts, MG_NAME(pack_backward), s);
    mg_parallel(parts, part, s);
}
