/* A recurrent layer over a whole sequence: everything but the gates. The driver walks through time, forms the
 * products and hands each finished tile of sums to a cell function, its epilogue, which alone knows what the
 * gates mean. What a new cell must supply stands in `cell` and `cell_tile` below; lstm.inc.h, gru.inc.h and
 * rnn.inc.h are the examples.
 *
 * The unit block. LANES neighbouring hidden units are computed together. A product gives each unit some sums,
 * its slots (the LSTM's four are i f g o); a panel of weights is [k][blocks][slots][LANES], as many blocks of
 * units as fill the four vectors of a tile. A tile of rows x one panel then holds all that the cell needs, and
 * the cell runs while the tile is in the nearest cache. Weights are brought into this form once per call;
 * units beyond H have weights 0 and are never stored.
 *
 * Threads. Each takes some rows through the whole sequence and, once the weights are packed, meets no other; or,
 * where rows are few or the weights many, some units of all rows, and then all meet after each product. */

#ifndef MG_GROUP
#define MG_GROUP 96 /* rows that go together through the sequence: each panel of weights serves them all */

enum {
    MG_CHUNK = 8 * 1024, /* rows x units: with four gates in float32 128 KiB, an eighth of a second-level cache */
    MG_CHUNK_ROWS = 12,  /* two tiles: fewer rows would wait for the weights of x */
};

/* The sums with x are formed for several steps before the recurrence walks through them, so that a small
 * batch too reads a panel of w once for many rows; not for more than the second-level cache holds. */
MG_INLINE int64_t chunk_steps(int64_t T, int64_t N, int64_t H)
{
    const int64_t rows = larger(MG_CHUNK_ROWS, smaller(MG_GROUP, MG_CHUNK / larger(H, 1)));
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

/* Behind the last of the rows from..to-1 that is active at step t. */
MG_INLINE int64_t active_end(const int64_t *lengths, int64_t from, int64_t to, int64_t t)
{
    if (lengths)
        while (to > from && t >= lengths[to - 1]) to--;
    return to;
}

/* Into how many parts a call is cut, and whether these are units or else rows. */
struct division {
    int parts, by_units;
};

enum { /* measured on two cores of Zen 4, 1 MiB of second-level cache each */
    MG_UNIT_GRAIN = 8 * 1000,     /* FMAs in a step of a part that are worth meeting the other parts */
    MG_FEW_ROWS = 12,             /* with fewer rows a part waits for weights rather than for sums */
    MG_MANY_WEIGHTS = 600 * 1024, /* bytes of weights that do not stay in the cache of each core */
};

MG_INLINE struct division divide(int64_t T, int64_t N, int64_t step_fmas, int64_t weight_bytes, int64_t blocks)
{
    const int64_t most = smaller(mg_threads(), worthy_parts(T * step_fmas, MG_MAX_THREADS));
    const int64_t units = smaller(smaller(most, blocks), step_fmas / MG_UNIT_GRAIN);
    if (units > 1 && (N < MG_FEW_ROWS * most || weight_bytes > MG_MANY_WEIGHTS))
        return (struct division){(int)units, 1};
    return (struct division){(int)larger(1, smaller(most, N / 2)), 0};
}
#endif

/* A matrix of weights, as the sums that it gives to units:
 *
 *     sum[slot] of a unit = chain over p < k of a[p] * from[slot*of_slot + unit*of_unit + p*of_k] */
struct MG_NAME(weights) {
    int slots;
    int64_t k;
    const REAL *from;
    int64_t of_slot, of_unit, of_k;
    const REAL *bias; /* [slots][H], or NULL */
    REAL *panels;     /* the one that begins with `unit` lies at unit*slots*k */
    REAL *starts;     /* the bias in the order of a row of a panel: [unit block][slots][LANES] */
};

/* What a cell function sees of a step: arrays from row 0 and unit 0 on. Rows and slots lie `width` (= H) elements
 * apart, but for rows beside which another distance stands. Where a row is not active, a forward function stores
 * zeros in y and saved and leaves c; a backward function stores zeros in dz and dz_h and leaves dh and dc. */
struct MG_NAME(cell_step) {
    int64_t width, t;
    const int64_t *lengths;            /* [row], or NULL */
    const REAL *p;                     /* further weights, [slot][unit], or NULL */
    REAL *saved;                       /* what the backward pass wants to know, [row][slot][unit], or NULL */
    int64_t saved_row;
    const REAL *h;                     /* the state before this step */
    REAL *y, *c;                       /* h after it; the state beside h, in and out (forward) */
    REAL *between;                     /* the left factor of the second product */
    const REAL *c_prev;                /* c before this step (backward) */
    int64_t c_prev_row;
    const REAL *dy;                    /* cotangents: of y, or NULL; */
    REAL *dh, *dc;                     /*   of h and c: in, after this step, out, before it (of h only what comes
                                            another way than through the product); */
    REAL *dz, *dz_h;                   /*   of the sums with x; of those with h, where they are others */
    int64_t dz_row, dz_h_row;
};

/* And which rows and units of it: `rows` from `row` on, `units` <= LANES from `unit` on, with their sums. */
struct MG_NAME(cell_tile) {
    int64_t row, unit;
    int rows, units;
    REAL *x, *z;                       /* the sums with x, which may be written to; those of the product just */
    int64_t x_row, z_row;              /*   formed: slots lie LANES apart, and rows so far */
};

typedef void MG_NAME(cell_function)(const struct MG_NAME(cell_step) *, const struct MG_NAME(cell_tile) *);

/* A cell function that is another one, inlined, with a last argument that makes the difference. */
#ifndef MG_CELL_FUNCTION
#define MG_CELL_FUNCTION(name, of, argument)                                                                \
    static void MG_NAME(name)(const struct MG_NAME(cell_step) *step, const struct MG_NAME(cell_tile) *tile) \
    {                                                                                                       \
        MG_NAME(of)(step, tile, argument);                                                                  \
    }
#endif

/* A cell.
 *
 * Forward, a step forms the sums with h and calls `forward`; if there is a second product, it forms its sums from
 * `between` and calls `forward2`. Backward it calls `backward`; if there is a second product, it multiplies the
 * last slot of dz by its weights and calls `backward2` with the sums; then it multiplies dz_h (or dz, its first
 * slots) by the recurrent weights, which gives dh: added to what dh holds if the cell `carries`. */
struct MG_NAME(cell) {
    int gates;     /* sums with x for each unit: the rows of w are gates*H */
    int recurrent; /* sums with h */
    int joined;    /* the sums with h go on from those with x, slot by slot; else they begin at b_h */
    int second;    /* whether there is a second product, one sum for each unit, which begins at b_v */
    int apart;     /* whether dz_h is not dz */
    int carries;   /* whether h reaches the next h by another way than the product */
    int saved;     /* values of a unit that are saved; the last is c where there is one */
    MG_NAME(cell_function) *forward, *forward2, *backward, *backward2;
};

/* What one thread does of a call: rows x units. Shares of the same rows meet after each product. */
struct MG_NAME(share) {
    int64_t row, rows_end, unit, units_end;
    int meets; /* how many there are; not above 1 for shares that meet no other */
};

/* A call, as all its threads see it. */
struct MG_NAME(layer) {
    const struct MG_NAME(cell) *cell;
    int64_t T, N, I, H;
    const int64_t *lengths;
    const REAL *x, *p, *h0, *c0;
    REAL *y, *saved;
    REAL *h, *c;                            /* forward: the last state; c is kept up to date on the way */
    const REAL *dy, *dh_last, *dc_last;
    REAL *dz, *dz_h, *dh, *dc;              /* dh, dc: the cotangents of the state on their way back */
    struct MG_NAME(weights) w, u, v;        /* of x, of h, of the second product (forward or backward) */
    REAL *sums;                             /* with x, of one chunk of steps: see sums_with_x */
    REAL *between;                          /* [row][H] */
    int64_t steps;                          /* of one chunk */
    int by_units;
    void (*run)(const struct MG_NAME(layer) *, const struct MG_NAME(share) *);
};

MG_INLINE int MG_NAME(is_active)(const struct MG_NAME(cell_step) *step, int64_t row)
{
    return !step->lengths || step->t < step->lengths[row] + MG_BUG(206);
}

MG_INLINE VEC MG_NAME(load_units)(const REAL *p, int n) { return n == LANES ? v_load(p) : v_load_n(p, n); }

MG_INLINE void MG_NAME(store_units)(REAL *p, VEC v, int n)
{
    if (n == LANES) v_store(p, v);
    else v_store_n(p, v, n);
}

/* ---- Weights ---- */

/* Unit blocks in the panel that begins with `unit`, when the units end before `end`. */
MG_INLINE int MG_NAME(panel_blocks)(int slots, int64_t unit, int64_t end)
{
    return (int)smaller(slots > 2 ? 1 : 4 / slots, pieces(end - unit, LANES));
}

static void MG_NAME(pack)(const struct MG_NAME(weights) *w, int64_t H, int64_t unit, int64_t end)
{
    for (int blocks; unit < end; unit += blocks * LANES) {
        blocks = MG_NAME(panel_blocks)(w->slots, unit, end);
        for (int i = 0; i < blocks * w->slots; i++) {
            const int slot = i % w->slots, gate = MG_BUG(202) && w->slots == 4 ? slot ^ 1 : slot;
            const int64_t first = unit + i / w->slots * LANES;
            const int units = (int)smaller(LANES, end - first);
            MG_NAME(pack_strip)(w->k, units, w->from + gate * w->of_slot + first * w->of_unit, w->of_k, w->of_unit,
                                w->panels + unit * w->slots * w->k + i * LANES, blocks * w->slots * LANES);
            if (w->bias)
                v_store(w->starts + unit * w->slots + i * LANES, v_load_n(w->bias + gate * H + first, units));
        }
    }
}

/* The sums of m rows of `a` for the panel that begins with `unit`; see `tile`. */
MG_INLINE void MG_NAME(panel_sums)(const struct MG_NAME(weights) *w, int64_t unit, int blocks, int64_t m,
                                   const REAL *a, int64_t a_row, const REAL *start, int64_t start_row,
                                   REAL *c, int64_t c_row)
{
    const int vectors = blocks * w->slots;
    MG_NAME(tile)((int)m, vectors, w->k, a, a_row, 1, w->panels + unit * w->slots * w->k, vectors * LANES,
                  start, start_row, c, c_row);
}

/* ---- A step ---- */

/* The sums with x of the block of units that begins with `unit`, for step q of the chunk and row i; the next row
 * lies *row further. Blocks lie as in the panels of w, and the steps of a panel end to end. */
MG_INLINE REAL *MG_NAME(sums_with_x)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share,
                                     int64_t unit, int64_t q, int64_t i, int64_t *row)
{
    const int slots = s->cell->gates;
    const int64_t block = slots > 2 ? 0 : (unit - share->unit) / LANES % (4 / slots), first = unit - block * LANES;
    *row = MG_NAME(panel_blocks)(slots, first, share->units_end) * slots * LANES;
    return s->sums + first * slots * s->steps * s->N + (q * s->N + i) * *row + block * slots * LANES;
}

MG_INLINE struct MG_NAME(cell_step) MG_NAME(step_of)(const struct MG_NAME(layer) *s, int64_t t)
{
    const int64_t H = s->H, rows = t * s->N, saved = s->cell->saved * H;
    struct MG_NAME(cell_step) step = {
        .width = H, .t = t, .lengths = s->lengths, .p = s->p, .saved_row = saved,
        .h = t ? s->y + (rows - s->N) * H : s->h0, /* a row that is active now was active before: h is the last y */
        .y = s->y + rows * H, .c = s->c, .between = s->between, .c_prev = s->c0, .c_prev_row = H,
        .dh = s->dh, .dc = s->dc, .dz_row = s->cell->gates * H, .dz_h_row = s->cell->recurrent * H,
    };
    if (s->saved) step.saved = s->saved + rows * saved;
    if (s->c0 && t && s->saved) step.c_prev = step.saved - s->N * saved + (saved - H), step.c_prev_row = saved;
    if (s->dy) step.dy = s->dy + rows * H;
    if (s->dz) step.dz = s->dz + rows * step.dz_row;
    if (s->dz_h) step.dz_h = s->dz_h + rows * step.dz_h_row;
    return step;
}

/* Step t: the sums of the rows of `a` with the weights, tile by tile, and the cell function that takes them. They
 * begin at the bias of w, or at 0 if it has none, or (joined) where the sums with x ended. In the forward pass q
 * is the step of the chunk; in the backward pass, where no sums with x are kept, it is -1. Without w there is no
 * product, and the cell function is called alone. */
MG_INLINE void MG_NAME(step)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share,
                             int64_t t, int64_t q, const struct MG_NAME(weights) *w, int joined,
                             const REAL *a, int64_t a_row, MG_NAME(cell_function) *function)
{
    const struct MG_NAME(cell_step) step = MG_NAME(step_of)(s, t);
    const int slots = w ? w->slots : 4;
    _Alignas(64) REAL z[MG_MR * MG_WIDTH];
    for (int64_t unit = share->unit, blocks; unit < share->units_end; unit += blocks * LANES) {
        blocks = MG_NAME(panel_blocks)(slots, unit, share->units_end);
        const int64_t z_row = blocks * slots * LANES;
        for (int64_t i = share->row, m; i < share->rows_end; i += m) {
            m = tile_rows(share->rows_end - i);
            if (w && t < longest(s->lengths, i, i + m, s->T)) {
                int64_t row = 0;
                const REAL *start = joined ? MG_NAME(sums_with_x)(s, share, unit, q, i, &row)
                                  : w->bias ? w->starts + unit * slots : NULL;
                MG_NAME(panel_sums)(w, unit, (int)blocks, m, a + i * a_row, a_row, start, row, z, z_row);
            }
            for (int64_t b = 0; b < blocks; b++) {
                const int64_t first = unit + b * LANES;
                struct MG_NAME(cell_tile) tile = {
                    .row = i, .unit = first, .rows = (int)m, .units = (int)smaller(LANES, share->units_end - first),
                    .z = z + b * slots * LANES, .z_row = z_row,
                };
                if (q >= 0 && !joined)
                    tile.x = MG_NAME(sums_with_x)(s, share, MG_BUG(224) ? unit : first, q, i, &tile.x_row);
                function(&step, &tile);
            }
        }
    }
}

MG_INLINE void MG_NAME(meet)(const struct MG_NAME(share) *share)
{
    if (!MG_BUG(222)) mg_barrier(share->meets);
}

/* to[row] = from[row], or 0 without `from`, for a share's rows and units; rows lie to_row and from_row apart. */
MG_INLINE void MG_NAME(copy_share)(const struct MG_NAME(share) *share, REAL *to, int64_t to_row,
                                   const REAL *from, int64_t from_row)
{
    const size_t bytes = (size_t)(share->units_end - share->unit) * sizeof(REAL);
    for (int64_t r = share->row; r < share->rows_end && to; r++) {
        if (from) memmove(to + r * to_row + share->unit, from + r * from_row + share->unit, bytes);
        else memset(to + r * to_row + share->unit, 0, bytes);
    }
}

/* Zeros in an array [T][N][slots][H] at step t, for the rows of the share. */
MG_INLINE void MG_NAME(clear)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share, int64_t t,
                              REAL *array, int64_t slots)
{
    for (int64_t slot = 0; slot < slots - (MG_BUG(223) && slots > 1) && array; slot++)
        MG_NAME(copy_share)(share, array + (t * s->N * slots + slot) * s->H, slots * s->H, NULL, 0);
}

/* The rows of a share up to the last one that is active at step t, and (rest) those behind. Where rows are sorted
 * by length, the longest first, nothing is computed for the others. */
MG_INLINE struct MG_NAME(share) MG_NAME(active_share)(const struct MG_NAME(layer) *s,
                                                      const struct MG_NAME(share) *share, int64_t t,
                                                      struct MG_NAME(share) *rest)
{
    struct MG_NAME(share) active = *share;
    *rest = *share;
    active.rows_end = rest->row = active_end(s->lengths, share->row, share->rows_end, t);
    return active;
}

/* ---- Forward ---- */

/* The sums with x of the steps t0..t1-1. */
static void MG_NAME(project)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share,
                             int64_t t0, int64_t t1)
{
    const int64_t N = s->N, I = s->I;
    struct MG_NAME(share) rest, last = MG_NAME(active_share)(s, share, t1 - 1, &rest);
    /* While all rows of the batch are active the steps lie end to end, and a tile may span several. */
    const int at_once = last.row == 0 && last.rows_end == N;
    for (int64_t unit = share->unit, blocks; unit < share->units_end; unit += blocks * LANES) {
        blocks = MG_NAME(panel_blocks)(s->w.slots, unit, share->units_end);
        for (int64_t t = t0; t < (at_once ? t0 + 1 : t1); t++) {
            const int64_t end = at_once ? (t1 - t0) * N : active_end(s->lengths, share->row, share->rows_end, t);
            for (int64_t i = share->row, m; i < end; i += m) {
                m = tile_rows(end - i);
                int64_t row;
                REAL *to = MG_NAME(sums_with_x)(s, share, unit, t - t0, i, &row);
                MG_NAME(panel_sums)(&s->w, unit, (int)blocks, m, s->x + ((MG_BUG(215) ? t - t0 : t) * N + i) * I, I,
                                    s->w.bias ? s->w.starts + unit * s->w.slots : NULL, 0, to, row);
            }
        }
    }
}

static void MG_NAME(forward_share)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share)
{
    const struct MG_NAME(cell) *cell = s->cell;
    const int64_t N = s->N, H = s->H, end = longest(s->lengths, share->row, share->rows_end, s->T);
    struct MG_NAME(share) rest;
    MG_NAME(copy_share)(share, s->c, H, s->c0, H);
    for (int64_t t0 = 0; t0 < s->T; t0 += s->steps) {
        const int64_t t1 = smaller(t0 + s->steps, s->T);
        if (t0 < end) MG_NAME(project)(s, share, t0, smaller(t1, end));
        for (int64_t t = t0; t < t1; t++) {
            const struct MG_NAME(share) active = MG_NAME(active_share)(s, share, t, &rest);
            MG_NAME(clear)(s, &rest, t, s->y, 1);
            MG_NAME(clear)(s, &rest, t, s->saved, cell->saved);
            if (t >= end) continue;
            const REAL *h = t ? s->y + (t - 1) * N * H : s->h0;
            MG_NAME(step)(s, &active, t, t - t0, &s->u, cell->joined, h, H, cell->forward);
            MG_NAME(meet)(share);
            if (!cell->second) continue;
            MG_NAME(step)(s, &active, t, t - t0, &s->v, 0, s->between, H, cell->forward2);
            MG_NAME(meet)(share);
        }
    }
    for (int64_t r = share->row; r < share->rows_end; r++) {
        const int64_t length = longest(s->lengths, r, r + 1, s->T);
        const struct MG_NAME(share) one = {r, r + 1, share->unit, share->units_end, 0};
        MG_NAME(copy_share)(&one, s->h, H, length > 0 ? s->y + (length - 1) * N * H : s->h0, H);
    }
}

/* ---- Backward ---- */

/* dh = dz u for the active rows of step t, added to what a cell has carried. */
MG_INLINE void MG_NAME(state_back)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share, int64_t t,
                                   const REAL *dz, int64_t dz_row)
{
    const int64_t H = s->H;
    for (int64_t unit = share->unit, blocks; unit < share->units_end; unit += blocks * LANES) {
        blocks = MG_NAME(panel_blocks)(1, unit, share->units_end);
        const int64_t units = smaller(blocks * LANES, share->units_end - unit);
        for (int64_t i = share->row, m; i < share->rows_end; i += m) {
            m = tile_rows(share->rows_end - i);
            REAL *dh = s->dh + i * H + unit;
            if (!s->lengths && !s->cell->carries && units == blocks * LANES) {
                MG_NAME(panel_sums)(&s->u, unit, (int)blocks, m, dz + i * dz_row, dz_row, NULL, 0, dh, H);
                continue;
            }
            if (t >= longest(s->lengths, i, i + m, s->T)) continue;
            _Alignas(64) REAL sum[MG_MR * MG_WIDTH];
            MG_NAME(panel_sums)(&s->u, unit, (int)blocks, m, dz + i * dz_row, dz_row, NULL, 0, sum, MG_WIDTH);
            for (int64_t r = 0; r < m; r++, dh += H) {
                if (s->lengths && t >= s->lengths[i + r] && !MG_BUG(210)) continue;
                for (int64_t j = 0; j < units; j += LANES) {
                    const int n = (int)smaller(LANES, units - j);
                    const VEC v = v_load(sum + r * MG_WIDTH + j);
                    const VEC carried = s->cell->carries ? v_add(MG_NAME(load_units)(dh + j, n), v) : v;
                    MG_NAME(store_units)(dh + j, carried, n);
                }
            }
        }
    }
}

static void MG_NAME(backward_share)(const struct MG_NAME(layer) *s, const struct MG_NAME(share) *share)
{
    const struct MG_NAME(cell) *cell = s->cell;
    const int64_t N = s->N, H = s->H, end = longest(s->lengths, share->row, share->rows_end, s->T);
    const int64_t row = cell->gates * H, h_row = cell->apart ? cell->recurrent * H : row;
    MG_NAME(copy_share)(share, s->dh, H, s->dh_last, H);
    MG_NAME(copy_share)(share, s->dc, H, MG_BUG(203) ? NULL : s->dc_last, H);
    for (int64_t t = s->T - 1; t >= 0; t--) {
        struct MG_NAME(share) rest, active = MG_NAME(active_share)(s, share, t, &rest);
        const REAL *dz = s->dz + t * N * row, *dz_h = cell->apart ? s->dz_h + t * N * h_row : dz;
        MG_NAME(clear)(s, &rest, t, s->dz, cell->gates);
        if (cell->apart) MG_NAME(clear)(s, &rest, t, s->dz_h, cell->recurrent);
        if (t >= end) continue;
        MG_NAME(step)(s, &active, t, -1, NULL, 0, NULL, 0, cell->backward);
        if (cell->second) {
            MG_NAME(meet)(share);
            MG_NAME(step)(s, &active, t, -1, &s->v, 0, dz + row - H, row, cell->backward2);
        }
        MG_NAME(meet)(share);
        if (MG_BUG(204) && t == 0) return;
        MG_NAME(state_back)(s, &active, t, dz_h, h_row);
    }
}

/* ---- Calls ---- */

/* A part of [0, n) in whole blocks. */
MG_INLINE void MG_NAME(cut)(int64_t n, int64_t block, int part, int parts, int64_t *from, int64_t *to)
{
    const int64_t blocks = pieces(n, block);
    *from = smaller(n, blocks * part / parts * block);
    *to = smaller(n, blocks * (part + 1) / parts * block);
}

static void MG_NAME(layer_part)(void *layer, int part, int parts)
{
    const struct MG_NAME(layer) *s = layer;
    const struct MG_NAME(weights) *weights[3] = {&s->w, &s->u, &s->v};
    struct MG_NAME(share) all = {.rows_end = s->N, .units_end = s->H};
    int64_t from, to; /* the units whose weights this part packs: for itself, or its share of them for all parts */
    MG_NAME(cut)(s->H, s->by_units ? LANES : MG_WIDTH, part, parts, &from, &to);
    for (int i = 0; i < 3; i++)
        if (weights[i]->slots) MG_NAME(pack)(weights[i], s->H, from, to);
    if (s->by_units) {
        all.unit = from, all.units_end = to, all.meets = parts;
    } else {
        mg_barrier(parts);
        all.row = s->N * part / parts, all.rows_end = s->N * (part + 1) / parts - (MG_BUG(214) && parts > 1);
    }
    const int64_t rows = all.rows_end - all.row, groups = pieces(rows, MG_GROUP);
    for (int64_t g = 0; g < groups; g++) {
        struct MG_NAME(share) group = all;
        group.row = all.row + rows * g / groups, group.rows_end = all.row + rows * (g + 1) / groups;
        s->run(s, &group);
    }
}

static void MG_NAME(run_layer)(struct MG_NAME(layer) *s, int64_t step_fmas)
{
    if (s->N <= 0 || s->H <= 0) return; /* all results are empty, however many steps there are */
    const int64_t weights = (s->u.slots * s->u.k + s->v.slots * s->v.k) * s->H * (int64_t)sizeof(REAL);
    const struct division division = divide(s->T, s->N, step_fmas, weights, pieces(s->H, LANES));
    s->by_units = division.by_units;
    mg_team(division.parts, MG_NAME(layer_part), s);
}

/* The weights of a product and their place in scratch, which moves on. */
MG_INLINE struct MG_NAME(weights) MG_NAME(weights_at)(REAL **scratch, int64_t H, int slots, int64_t k,
                                                      const REAL *from, int64_t of_slot, int64_t of_unit,
                                                      int64_t of_k, const REAL *bias)
{
    const int64_t units = pieces(H, LANES) * LANES;
    REAL *panels = *scratch, *starts = panels + units * slots * k;
    struct MG_NAME(weights) w = {slots, k, from, of_slot, of_unit, of_k, bias, panels, starts};
    *scratch = w.starts + (bias ? units * slots : 0);
    return w;
}
