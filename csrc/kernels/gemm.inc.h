/* The matrix product. Every element of the result is one chain of FMAs over ascending k (see minigrad.h), so
 * the sum is never divided, neither over accumulators nor over threads; vectors run over the columns.
 *
 *   tile     at most MG_MR rows x 4*LANES columns of the result, in registers while k runs over a block of MG_KC
 *            steps; between two blocks the accumulators rest in `out`, which changes no bit
 *   A        is read where it stands, each tile's rows as often as there are panels; only where neither its rows
 *            nor its steps lie end to end are MG_ROWS tiles of it copied, as [k][MG_MR]
 *   B        a panel of 4*LANES columns, a block of k long, stays in the caches while all rows pass by. A copy, as
 *            [k][4*LANES], pays beyond MG_FEW rows, before that only for columns that do not lie end to end. The
 *            rows of a single tile meet a B that lies across, [n][k], in registers, without a copy
 *
 * What a block of k needs first comes from afar: the rows of the next tile of the result, and the rows of A, a page
 * apart where its steps are long. No processor foresees these, so they are prefetched a tile ahead; for products
 * beyond the second-level cache that is worth more than any order of loops. */

#ifndef MG_WIDTH
enum {
    MG_KC = 256,             /* steps of k in one block */
    MG_ROWS = 4,             /* tiles of copied rows of A that stand ready together */
    MG_GRAIN = 1000 * 1000,  /* FMAs that are worth a thread: in float32 some 20 microseconds */
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

/* c[i][0..nv) = start[i][0..nv) + a[i][.] b[.][0..nv) for i < m, nv counting vectors, the sum over `blocks` x k
 * steps; m and nv are constants once inlined. No start is a start of zeros; a row distance of 0 starts every row
 * alike. */
MG_INLINE void MG_NAME(tile_of)(const int m, const int nv, int64_t blocks, int64_t k,
                                const REAL *a, int64_t a_row, int64_t a_block, int64_t a_k,
                                const REAL *b, int64_t b_block, int64_t b_k,
                                const REAL *start, int64_t start_row, REAL *c, int64_t c_row)
{
    VEC sum[MG_MR][4];
    MG_UNROLL
    for (int i = 0; i < m; i++) {
        MG_UNROLL
        for (int v = 0; v < nv; v++) sum[i][v] = start ? v_load(start + i * start_row + v * LANES) : v_zero();
    }
    for (; blocks > 0; blocks--, a += a_block - k * a_k, b += b_block - k * b_k)
        for (int64_t p = k; p > 0; p--, a += a_k, b += b_k) {
            VEC row[MG_MR];
            /* two lines ahead: in this row or, where rows lie end to end, in those of a later tile */
            if (m == MG_MR) __builtin_prefetch((const char *)a + 128, 0, 2);
            MG_UNROLL
            for (int i = 0; i < m; i++) row[i] = v_keep(v_set1(a[i * a_row]));
            MG_UNROLL
            for (int v = 0; v < nv; v++) {
                VEC col = m > 1 ? v_keep(v_load(b + v * LANES)) : v_load(b + v * LANES);
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
static void MG_NAME(tile_blocks)(int m, int nv, int64_t blocks, int64_t k,
                                 const REAL *a, int64_t a_row, int64_t a_block, int64_t a_k,
                                 const REAL *b, int64_t b_block, int64_t b_k,
                                 const REAL *start, int64_t start_row, REAL *c, int64_t c_row)
{
#define MG_CASE(M, NV) \
    case 4 * (M) + (NV): \
        MG_NAME(tile_of)(M, NV, blocks, k, a, a_row, a_block, a_k, b, b_block, b_k, start, start_row, c, c_row); \
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

MG_INLINE void MG_NAME(tile)(int m, int nv, int64_t k, const REAL *a, int64_t a_row, int64_t a_k,
                             const REAL *b, int64_t b_k, const REAL *start, int64_t start_row,
                             REAL *c, int64_t c_row)
{
    MG_NAME(tile_blocks)(m, nv, 1, k, a, a_row, 0, a_k, b, 0, b_k, start, start_row, c, c_row);
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
    if (b_col == 1 && cols % LANES == 0) {
        for (; k > 0; k--, b += b_k, to += to_k)
            for (int64_t j = 0; j < cols; j += LANES) v_store(to + j, v_load(b + j));
        return;
    }
    for (int64_t j = 0; j < cols; j += LANES)
        MG_NAME(pack_strip)(k, (int)smaller(LANES, cols - j), b + j * b_col, b_k, b_col, to + j, to_k);
}

/* The tile for a B that lies across, [n][k]: one vector of columns b[j*b_col + p], rows a[i*a_row + p], and k
 * whole squares of LANES steps. B passes through registers alone: for few rows a panel in memory would cost more
 * than the FMAs. */
MG_INLINE void MG_NAME(tile_across_of)(const int m, int64_t k, const REAL *a, int64_t a_row,
                                       const REAL *b, int64_t b_col, const REAL *start, int64_t start_row,
                                       REAL *c, int64_t c_row)
{
    VEC sum[MG_MR], square[LANES];
    MG_UNROLL
    for (int i = 0; i < m; i++) sum[i] = start ? v_load(start + i * start_row) : v_zero();
    for (; k > 0; k -= LANES, a += LANES, b += LANES) {
        const REAL *row[MG_MR];
        MG_UNROLL
        for (int i = 0; i < m; i++) {
            row[i] = a + i * a_row;
            MG_HERE(row[i]);
        }
        MG_NAME(load_square)(b, b_col, square);
        _Pragma("GCC unroll 16")
        for (int p = 0; p < LANES; p++) {
            MG_UNROLL
            for (int i = 0; i < m; i++) sum[i] = v_fma(v_set1(row[i][p]), square[p], sum[i]);
        }
    }
    MG_UNROLL
    for (int i = 0; i < m; i++) v_store(c + i * c_row, sum[i]);
}

static void MG_NAME(tile_across)(int m, int64_t k, const REAL *a, int64_t a_row, const REAL *b, int64_t b_col,
                                 const REAL *start, int64_t start_row, REAL *c, int64_t c_row)
{
#define MG_CASE(M) \
    case M: \
        MG_NAME(tile_across_of)(M, k, a, a_row, b, b_col, start, start_row, c, c_row); \
        return;
    switch (m) {
        MG_CASE(1)
        MG_CASE(2)
#if MG_MR >= 3
        MG_CASE(3)
#endif
#if MG_MR >= 6
        MG_CASE(4)
        MG_CASE(5)
        MG_CASE(6)
#endif
    }
#undef MG_CASE
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
    int a_stays, b_stays, across; /* A, B are read in place; B is transposed in registers */
    REAL *edge, *panel, *a_rows;  /* in the scratch of one thread */
};

/* Scratch of one thread, in elements: a tile of the result, a panel of B, rows of A. */
enum { MG_NAME(EDGE) = MG_MR * MG_WIDTH };

MG_INLINE int64_t MG_NAME(panel_size)(int64_t n, int64_t k)
{
    return smaller(k, MG_KC) * smaller(pieces(n, LANES) * LANES, MG_WIDTH);
}

MG_INLINE int64_t MG_NAME(product_scratch)(int64_t m, int64_t n, int64_t k)
{
    const int64_t a_rows = smaller(pieces(m, MG_MR), MG_ROWS) * MG_MR * smaller(k, MG_KC);
    return MG_NAME(EDGE) + MG_NAME(panel_size)(n, k) + pieces(a_rows, 16) * 16;
}

static int64_t MG_NAME(gemm_scratch)(int64_t m, int64_t n, int64_t blocks, int64_t k)
{
    int64_t one = MG_NAME(product_scratch)(m, n, blocks * k);
    return one * worthy_parts(m * n * blocks * k, MG_MAX_THREADS) * (int64_t)sizeof(REAL) + 64;
}

/* c[i][j] = from[i*row + j*col] */
static void MG_NAME(copy_tile)(int m, int cols, const REAL *from, int64_t row, int64_t col, REAL *c, int64_t c_row)
{
    for (int i = 0; i < m; i++, c += c_row, from += row) {
        int j = 0;
        if (col == 1) {
            for (; j + LANES <= cols; j += LANES) v_store(c + j, v_load(from + j));
            if (j < cols) v_store_n(c + j, v_load_n(from + j, cols - j), cols - j);
        } else {
            for (; j < cols; j++) c[j] = from[j * col];
        }
    }
}

/* m rows of A, element by element: to[s*MG_MR + i] is row i at step s = q*k + p. */
static void MG_NAME(pack_rows)(const struct MG_NAME(product) *g, int m, const REAL *a, REAL *to)
{
    for (int64_t q = 0; q < g->blocks; q++)
        for (int64_t p = 0; p < g->k; p++, to += MG_MR)
            for (int i = 0; i < m; i++) {
                const REAL x = a[i * g->a_row + q * g->a_block + p * g->a_k];
                to[i] = MG_BUG(213) ? (float)x : x;
            }
}

/* One tile of the result, m x cols from the corner (i, j) on, with A as given and B as given in a panel, or in
 * place where there is none. */
static void MG_NAME(product_tile)(const struct MG_NAME(product) *g, int m, int cols, int64_t i, int64_t j,
                                  const REAL *a, int64_t a_row, int64_t a_block, int64_t a_k, const REAL *panel)
{
    const int nv = (int)pieces(cols, LANES), whole = cols % LANES == 0, width = nv * LANES;
    REAL *out = g->out + i * g->out_row + j, *c = whole ? out : g->edge;
    const int64_t c_row = whole ? g->out_row : MG_WIDTH;
    const REAL *start = g->start ? g->start + i * g->start_row + j * g->start_col : NULL;
    int64_t start_row = g->start_row;
    if (MG_BUG(102) && !start) {
        for (int r = 0; r < m; r++)
            for (int v = 0; v < width; v += LANES)
                v_store(c + r * c_row + v, v_mul(v_load(c + r * c_row + v), v_zero()));
        start = c, start_row = c_row;
    }
    if (start && start != c && (!whole || g->start_col != 1)) {
        MG_NAME(copy_tile)(m, cols, start, start_row, g->start_col, c, c_row);
        start = c, start_row = c_row;
    }
    const int rows = m - (MG_BUG(205) && m > 1);
    const REAL *b = g->b + j * g->b_col;
    if (!g->across) {
        MG_NAME(tile_blocks)(rows, nv, g->blocks, g->k, a, a_row, a_block, a_k, panel ? panel : b,
                             panel ? g->k * width : g->b_block, panel ? width : g->b_k, start, start_row, c, c_row);
    } else {
        const int64_t squares = whole ? g->k - g->k % LANES : 0;
        if (squares) {
            MG_NAME(tile_across)(rows, squares, a, a_row, b, g->b_col, start, start_row, c, c_row);
            start = c, start_row = c_row;
        }
        for (int64_t p = squares; p < g->k; p += MG_KC, start = c, start_row = c_row) {
            const int64_t run = smaller(g->k - p, MG_KC);
            MG_NAME(pack_panel)(run, cols, b + p, 1, g->b_col, g->panel, width);
            MG_NAME(tile)(rows, nv, run, a + p, a_row, 1, g->panel, width, start, start_row, c, c_row);
        }
    }
    if (!whole) MG_NAME(copy_tile)(m, cols, g->edge, MG_WIDTH, 1, out, g->out_row);
}

/* What the processor does not foresee of the tile at row i: its rows of the result, where those of A begin. */
MG_INLINE void MG_NAME(prefetch)(const struct MG_NAME(product) *g, int64_t i, int64_t j, int width)
{
    for (int r = 0; r < MG_MR; r++) {
        for (int v = 0; v < width; v += LANES) __builtin_prefetch(g->out + (i + r) * g->out_row + j + v, 1, 2);
        if (g->a_k != 1) continue;
        __builtin_prefetch(g->a + (i + r) * g->a_row);
        __builtin_prefetch((const char *)(g->a + (i + r) * g->a_row) + 64);
    }
}

/* A sum of at most MG_KC steps, or of any number where B lies across. */
static void MG_NAME(product_block)(const struct MG_NAME(product) *g)
{
    const int64_t sum = g->blocks * g->k, rows = g->a_stays ? g->m : MG_ROWS * MG_MR;
    for (int64_t i0 = 0; i0 < g->m; i0 += rows) {
        const int64_t i1 = smaller(i0 + rows, g->m);
        REAL *to = g->a_rows;
        for (int64_t i = i0, m; i < i1 && !g->a_stays; i += m, to += sum * MG_MR) {
            m = tile_rows(i1 - i);
            MG_NAME(pack_rows)(g, (int)m, g->a + i * g->a_row, to);
        }
        for (int64_t j = 0, cols; j < g->n; j += cols) {
            cols = smaller(g->across ? LANES : MG_WIDTH, g->n - j);
            if (g->b_stays && cols > LANES) cols -= cols % LANES;
            const int64_t width = pieces(cols, LANES) * LANES;
            const int pack = !g->across && (!g->b_stays || cols < width);
            for (int64_t q = 0; q < g->blocks && pack; q++)
                MG_NAME(pack_panel)(g->k, cols, g->b + q * g->b_block + j * g->b_col, g->b_k, g->b_col,
                                    g->panel + q * g->k * width, width);
            const REAL *a = g->a_rows;
            for (int64_t i = i0, m; i < i1; i += m, a += sum * MG_MR) {
                m = tile_rows(i1 - i);
                if (i + m < i1) MG_NAME(prefetch)(g, i + m, j, (int)width);
                MG_NAME(product_tile)(g, (int)m, (int)cols, i, j, g->a_stays ? g->a + i * g->a_row : a,
                                      g->a_stays ? g->a_row : 1, g->a_stays ? g->a_block : g->k * MG_MR,
                                      g->a_stays ? g->a_k : MG_MR, pack ? g->panel : NULL);
            }
        }
    }
}

/* The whole product on one thread, block after block of the sum: several blocks of the caller's, or some of one. */
static void MG_NAME(product_run)(struct MG_NAME(product) *g, REAL *scratch)
{
    const struct MG_NAME(product) all = *g;
    g->edge = scratch, g->panel = g->edge + MG_NAME(EDGE);
    g->a_rows = g->panel + MG_NAME(panel_size)(g->n, g->blocks * g->k);
    g->a_stays = g->a_k == 1 || g->a_row == 1 || g->m == 1;
    g->b_stays = g->b_col == 1 && g->m <= MG_FEW;
    g->across = g->k > 0 && g->b_k == 1 && !g->b_stays && g->a_k == 1 && g->m <= MG_MR;
    const int64_t k = larger(g->k, 1), kc = g->across ? k : MG_KC, blocks = larger(1, smaller(g->blocks, kc / k));
    for (int64_t q = 0; q == 0 || q < all.blocks; q += blocks)
        for (int64_t p = 0; p == 0 || p < all.k; p += kc) {
            g->a = all.a + q * g->a_block + p * g->a_k, g->b = all.b + q * g->b_block + p * g->b_k;
            g->blocks = smaller(all.blocks - q, blocks), g->k = smaller(all.k - p, kc);
            MG_NAME(product_block)(g);
            if (!MG_BUG(207)) g->start = g->out, g->start_row = g->out_row, g->start_col = 1;
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
    MG_NAME(product_run)(&g, g.scratch + part * MG_NAME(product_scratch)(whole->m, whole->n, g.blocks * g.k));
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
    struct MG_NAME(product) g = {.m = m, .n = n, .blocks = blocks, .k = k,
                                 .a = a, .a_row = a_row, .a_block = a_block, .a_k = a_k,
                                 .b = b, .b_block = b_block, .b_k = b_k, .b_col = b_col,
                                 .start = start, .start_row = start_row, .start_col = start_col,
                                 .out = out, .out_row = out_row, .scratch = MG_NAME(aligned)(scratch)};
    const int64_t cuts = larger(pieces(n, MG_WIDTH), pieces(m, MG_MR));
    const int parts = (int)smaller(mg_threads(), worthy_parts(m * n * blocks * k, cuts));
    if (MG_BUG(105) && parts > 1) g.a += (k - 1) * g.a_k, g.b += (k - 1) * g.b_k, g.a_k *= -1, g.b_k *= -1;
    mg_parallel(parts, MG_NAME(product_part), &g);
}
