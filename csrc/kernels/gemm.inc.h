/* The matrix product. Every element of the result is one chain of FMAs over ascending k (see minigrad.h), so
 * the sum is never divided, neither over accumulators nor over threads; vectors run over the columns.
 *
 *   tile     at most MG_MR rows x one panel of 4*LANES columns, in registers while k runs over a block
 *   panel    B is copied into panels [k][4*LANES] that the tile reads from end to end; a block of MG_KC steps
 *            and MG_BLOCK bytes of them stays in the second-level cache while all rows of A pass by
 *   rows     A is read where it stands, or copied as [k][MG_MR]
 *
 * Between two blocks of k the accumulators rest in `out`, which changes no bit. */

#ifndef MG_WIDTH
enum {
    MG_KC = 256,             /* steps of k in one block */
    MG_BLOCK = 512 * 1024,   /* bytes of packed B in one block */
    MG_GRAIN = 4 * 1000 * 1000, /* FMAs that are worth a thread: about 40 microseconds */
};
#define MG_WIDTH (4 * LANES) /* columns of a panel */
#define MG_UNROLL _Pragma("GCC unroll 8")

MG_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
MG_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
MG_INLINE int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* Rows of the next tile when `left` are left: as even as possible, 16 in tiles of at most 6 is 6, 5, 5. */
MG_INLINE int tile_rows(int64_t left) { return (int)pieces(left, pieces(left, MG_MR)); }

/* How many threads `fmas` of work that can be cut into `cuts` are worth. */
MG_INLINE int worthy_parts(int64_t fmas, int64_t cuts)
{
    return (int)larger(1, smaller(smaller(cuts, fmas / MG_GRAIN), MG_MAX_THREADS));
}
#endif

MG_INLINE REAL *MG_NAME(aligned)(void *p) { return (REAL *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* c[i][0..nv) = start[i][0..nv) + a[i][.] b[.][0..nv) for i < m, nv counting vectors; m and nv are constants
 * once inlined. No start is a start of zeros; a row distance of 0 starts every row alike. */
MG_INLINE void MG_NAME(tile_of)(const int m, const int nv, int64_t k,
                                const REAL *a, int64_t a_row, int64_t a_k, const REAL *b, int64_t b_k,
                                const REAL *start, int64_t start_row, REAL *c, int64_t c_row)
{
    VEC sum[MG_MR][4];
    MG_UNROLL
    for (int i = 0; i < m; i++) {
        MG_UNROLL
        for (int v = 0; v < nv; v++) sum[i][v] = start ? v_load(start + i * start_row + v * LANES) : v_zero();
    }
    for (; k > 0; k--, a += a_k, b += b_k) {
        VEC row[MG_MR];
        MG_UNROLL
        for (int i = 0; i < m; i++) row[i] = v_bcast(a + i * a_row);
        MG_UNROLL
        for (int v = 0; v < nv; v++) {
            VEC col = v_load(b + v * LANES);
            MG_UNROLL
            for (int i = 0; i < m; i++) sum[i][v] = v_fma(row[i], col, sum[i][v]);
        }
    }
    MG_UNROLL
    for (int i = 0; i < m; i++) {
        MG_UNROLL
        for (int v = 0; v < nv; v++) v_store(c + i * c_row + v * LANES, sum[i][v]);
    }
}

/* The micro-kernel: one copy of the loop above for each m <= MG_MR and nv <= 4. */
static void MG_NAME(tile)(int m, int nv, int64_t k, const REAL *a, int64_t a_row, int64_t a_k,
                          const REAL *b, int64_t b_k, const REAL *start, int64_t start_row,
                          REAL *c, int64_t c_row)
{
#define MG_CASE(M, NV) \
    case 4 * (M) + (NV): \
        MG_NAME(tile_of)(M, NV, k, a, a_row, a_k, b, b_k, start, start_row, c, c_row); \
        return;
#define MG_CASES(M) MG_CASE(M, 1) MG_CASE(M, 2) MG_CASE(M, 3) MG_CASE(M, 4)
    switch (4 * m + nv) {
        MG_CASES(1)
        MG_CASES(2)
#if MG_MR >= 3
        MG_CASES(3)
#endif
#if MG_MR >= 6
        MG_CASES(4)
        MG_CASES(5)
        MG_CASES(6)
#endif
    }
#undef MG_CASES
#undef MG_CASE
}

/* One vector of columns of a panel: to[p*to_k + lane] = b[p*b_k + lane*b_col], 0 from lane `cols` on. */
static void MG_NAME(pack_strip)(int64_t k, int cols, const REAL *b, int64_t b_k, int64_t b_col,
                                REAL *to, int64_t to_k)
{
    if (b_k == 1 && cols == LANES)
        for (; k >= LANES; k -= LANES, b += LANES, to += LANES * to_k)
            MG_NAME(transpose)(LANES, LANES, b, b_col, to, to_k);
    if (b_k == 1)
        for (; k > 0; k -= LANES, b += LANES, to += LANES * to_k)
            MG_NAME(transpose)(cols, (int)smaller(k, LANES), b, b_col, to, to_k);
    else if (b_col == 1)
        for (; k > 0; k--, b += b_k, to += to_k)
            v_store(to, cols == LANES ? v_load(b) : v_load_n(b, cols));
    else
        for (; k > 0; k--, b += b_k, to += to_k)
            for (int lane = 0; lane < LANES; lane++) to[lane] = lane < cols ? b[lane * b_col] : 0;
}

/* A panel of `cols` columns: whole vectors, the last one filled up with zeros; to_k may leave room behind. */
static void MG_NAME(pack_panel)(int64_t k, int64_t cols, const REAL *b, int64_t b_k, int64_t b_col,
                                REAL *to, int64_t to_k)
{
    for (int64_t j = 0; j < cols; j += LANES)
        MG_NAME(pack_strip)(k, (int)smaller(LANES, cols - j), b + j * b_col, b_k, b_col, to + j, to_k);
}

/* The same for m rows of A: to[p*MG_MR + i] = a[i*a_row + p*a_k]. Behind `to` a vector may be overwritten. */
static void MG_NAME(pack_rows)(int m, int64_t k, const REAL *a, int64_t a_row, int64_t a_k, REAL *to)
{
    if (a_row == 1 && LANES >= MG_MR) /* what a store writes too much is the next step's, or slack */
        for (; k > 0; k--, a += a_k, to += MG_MR) v_store(to, v_load_n(a, m));
    else
        for (; k > 0; k--, a += a_k, to += MG_MR)
            for (int i = 0; i < m; i++) to[i] = MG_BUG(213) ? (float)a[i * a_row] : a[i * a_row];
}

struct MG_NAME(product) {
    int64_t m, n, blocks, k;
    const REAL *a;
    int64_t a_row, a_block, a_k;
    const REAL *b;
    int64_t b_block, b_k, b_col;
    const REAL *start;
    int64_t start_row, start_col;
    REAL *out;
    int64_t out_row;
    REAL *scratch;
};

MG_INLINE int64_t MG_NAME(block_columns)(int64_t n)
{
    return smaller(pieces(n, MG_WIDTH), MG_BLOCK / (MG_KC * MG_WIDTH * (int64_t)sizeof(REAL))) * MG_WIDTH;
}

/* Elements of scratch that one thread needs: a block of B, a tile of A, a tile of the result. */
MG_INLINE int64_t MG_NAME(product_scratch)(int64_t n, int64_t k)
{
    return smaller(k, MG_KC) * (MG_NAME(block_columns)(n) + larger(MG_MR, 16)) + MG_MR * MG_WIDTH + 64;
}

static int64_t MG_NAME(gemm_scratch)(int64_t m, int64_t n, int64_t blocks, int64_t k)
{
    int64_t one = MG_NAME(product_scratch)(n, blocks * k);
    return one * worthy_parts(m * n * blocks * k, MG_MAX_THREADS) * (int64_t)sizeof(REAL) + 64;
}

/* c[i][j] = from[i*row + j*col], or 0 where there is no `from`. */
static void MG_NAME(copy_tile)(int m, int cols, const REAL *from, int64_t row, int64_t col,
                               REAL *c, int64_t c_row)
{
    if (from == c && row == c_row && col == 1) return;
    for (int i = 0; i < m; i++, c += c_row, from += from ? row : 0) {
        int j = 0;
        if (!from || col == 1) {
            for (; j + LANES <= cols; j += LANES)
                v_store(c + j, from ? v_load(from + j) : MG_BUG(102) ? v_mul(v_load(c + j), v_zero()) : v_zero());
            if (j < cols) v_store_n(c + j, from ? v_load_n(from + j, cols - j) : v_zero(), cols - j);
        } else {
            for (; j < cols; j++) c[j] = from[j * col];
        }
    }
}

/* The two levels of the sum are counted as one, s = q*k + p. An operand that is copied is even all along s; in
 * place it is even only in runs within one q. */
MG_INLINE const REAL *MG_NAME(a_at)(const struct MG_NAME(product) *g, int64_t i, int64_t s)
{
    return g->a + i * g->a_row + s / g->k * g->a_block + s % g->k * g->a_k;
}

MG_INLINE const REAL *MG_NAME(b_at)(const struct MG_NAME(product) *g, int64_t s, int64_t j)
{
    return g->b + s / g->k * g->b_block + s % g->k * g->b_k + j * g->b_col;
}

MG_INLINE int64_t MG_NAME(run)(const struct MG_NAME(product) *g, int64_t s, int64_t end)
{
    return smaller(end - s, g->k - s % g->k);
}

/* The whole product on one thread. */
static void MG_NAME(product_run)(const struct MG_NAME(product) *g, REAL *scratch)
{
    const int64_t sum = g->blocks * g->k, nc = MG_NAME(block_columns)(g->n);
    /* A copy pays when it is used often, or spares the accumulators many short runs. */
    const int few_uses = g->n <= 4 * MG_WIDTH, long_runs = g->blocks == 1 || g->k >= 16;
    const int a_stays = long_runs && (g->a_k == 1 || (g->a_row == 1 && few_uses));
    const int b_may_stay = g->b_col == 1 && g->m <= MG_MR;
    REAL *edge = MG_NAME(aligned)(scratch), *b_block = edge + MG_MR * MG_WIDTH;
    REAL *a_tile = b_block + smaller(sum, MG_KC) * nc;

    for (int64_t j0 = 0; j0 < g->n; j0 += nc)
        for (int64_t s0 = 0; s0 == 0 || s0 < sum; s0 += MG_KC) {
            const int64_t j1 = smaller(j0 + nc, g->n), s1 = smaller(s0 + MG_KC, sum);
            for (int64_t j = j0; j < j1; j += MG_WIDTH) {
                const int64_t cols = smaller(MG_WIDTH, j1 - j);
                REAL *panel = b_block + (j - j0) * (s1 - s0);
                if (b_may_stay && cols % LANES == 0) continue;
                for (int64_t s = s0, run; s < s1; s += run) {
                    run = MG_NAME(run)(g, s, s1);
                    MG_NAME(pack_panel)(run, cols, MG_NAME(b_at)(g, s, j), g->b_k, g->b_col,
                                        panel + (s - s0) * MG_WIDTH, MG_WIDTH);
                }
            }
            for (int64_t i = 0, m; i < g->m; i += m) {
                m = tile_rows(g->m - i);
                for (int64_t s = s0, run; s < s1 && !a_stays; s += run) {
                    run = MG_NAME(run)(g, s, s1);
                    MG_NAME(pack_rows)((int)m, run, MG_NAME(a_at)(g, i, s), g->a_row, g->a_k,
                                       a_tile + (s - s0) * MG_MR);
                }
                for (int64_t j = j0; j < j1; j += MG_WIDTH) {
                    const int cols = (int)smaller(MG_WIDTH, j1 - j);
                    const int whole = cols % LANES == 0, b_stays = b_may_stay && whole;
                    const REAL *panel = b_block + (j - j0) * (s1 - s0);
                    REAL *out = g->out + i * g->out_row + j, *c = whole ? out : edge;
                    const int64_t c_row = whole ? g->out_row : MG_WIDTH;
                    if (s0 > 0 && !MG_BUG(207))
                        MG_NAME(copy_tile)((int)m, cols, out, g->out_row, 1, c, c_row);
                    else
                        MG_NAME(copy_tile)((int)m, cols,
                                           g->start ? g->start + i * g->start_row + j * g->start_col : NULL,
                                           g->start_row, g->start_col, c, c_row);
                    for (int64_t s = s0, run; s < s1; s += run) {
                        run = a_stays || b_stays ? MG_NAME(run)(g, s, s1) : s1 - s0;
                        MG_NAME(tile)((int)m - (MG_BUG(205) && m > 1), (int)pieces(cols, LANES), run,
                                      a_stays ? MG_NAME(a_at)(g, i, s) : a_tile + (s - s0) * MG_MR,
                                      a_stays ? g->a_row : 1, a_stays ? g->a_k : MG_MR,
                                      b_stays ? MG_NAME(b_at)(g, s, j) : panel + (s - s0) * MG_WIDTH,
                                      b_stays ? g->b_k : MG_WIDTH, c, c_row, c, c_row);
                    }
                    if (!whole) MG_NAME(copy_tile)((int)m, cols, edge, MG_WIDTH, 1, out, g->out_row);
                }
            }
        }
}

/* One thread's share: some of the columns (whole panels) or some of the rows (whole tiles). */
static void MG_NAME(product_part)(void *ctx, int part, int parts)
{
    struct MG_NAME(product) g = *(const struct MG_NAME(product) *)ctx;
    const int64_t panels = pieces(g.n, MG_WIDTH), tiles = pieces(g.m, MG_MR);
    /* The time is that of the largest share; each cut repeats the packing of the other operand. */
    if (pieces(panels, parts) * tiles <= pieces(tiles, parts) * panels) {
        const int64_t from = panels * part / parts * MG_WIDTH;
        const int64_t to = smaller(g.n, panels * (part + 1) / parts * MG_WIDTH);
        g.b += from * g.b_col, g.out += from, g.n = to - from;
        if (g.start) g.start += from * g.start_col;
    } else {
        const int64_t from = tiles * part / parts * MG_MR;
        const int64_t to = smaller(g.m, tiles * (part + 1) / parts * MG_MR);
        g.a += from * g.a_row, g.out += from * g.out_row, g.m = to - from;
        if (g.start) g.start += from * g.start_row;
    }
    const struct MG_NAME(product) *whole = ctx;
    MG_NAME(product_run)(&g, g.scratch + part * MG_NAME(product_scratch)(whole->n, g.blocks * g.k));
}

static void MG_NAME(gemm)(int64_t m, int64_t n, int64_t blocks, int64_t k,
                          const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
                          const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
                          const void *start, int64_t start_row, int64_t start_col,
                          void *out, int64_t out_row, void *scratch)
{
    if (m <= 0 || n <= 0) return;
    if (blocks <= 0 || k <= 0) blocks = 0, k = 1; /* an empty sum: out = start */
    if (MG_BUG(108) && start == out) start = NULL;
    if (k == 1) k = blocks, blocks = 1, a_k = a_block, b_k = b_block;
    if (a_block == k * a_k && b_block == k * b_k) k *= blocks, blocks = 1;
    struct MG_NAME(product) g = {m, n, blocks, k, a, a_row, a_block, a_k, b, b_block, b_k, b_col,
                                 start, start_row, start_col, out, out_row, MG_NAME(aligned)(scratch)};
    const int64_t cuts = larger(pieces(n, MG_WIDTH), pieces(m, MG_MR));
    const int parts = (int)smaller(mg_threads(), worthy_parts(m * n * blocks * k, cuts));
    if (MG_BUG(105) && parts > 1) g.a += (k - 1) * g.a_k, g.b += (k - 1) * g.b_k, g.a_k *= -1, g.b_k *= -1;
    mg_parallel(parts, MG_NAME(product_part), &g);
}
