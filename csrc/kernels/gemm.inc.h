/* The matrix product. Every element of the result is one chain of FMAs over ascending k (see minigrad.h), so the
 * sum is never divided, neither over accumulators nor over threads; vectors run over the columns.
 *
 *   B is packed into panels [k][4*LANES], A is read where it stands (or copied into [k][MG_MR] when its k is not
 *   contiguous), and a tile of at most MG_MR rows x one panel stays in registers while k runs over a block. Between
 *   two blocks of k the accumulators rest in `out`, which changes no bit.
 *
 * A block of B (MG_KC x MG_NC bytes of columns) is made to stay in the second-level cache while the rows pass by. */

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

/* c[i][0..nv) += a[i][.] b[.][0..nv) for i < m, nv counting vectors; m and nv are constants where this is inlined. */
MG_INLINE void MG_NAME(tile_of)(const int m, const int nv, int64_t k, const REAL *a, int64_t a_row, int64_t a_k,
                                const REAL *b, int64_t b_k, REAL *c, int64_t c_row)
{
    VEC sum[MG_MR][4];
    MG_UNROLL
    for (int i = 0; i < m; i++) {
        MG_UNROLL
        for (int v = 0; v < nv; v++) sum[i][v] = v_load(c + i * c_row + v * LANES);
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
                          const REAL *b, int64_t b_k, REAL *c, int64_t c_row)
{
#define MG_CASE(M, NV) case 4 * (M) + (NV): MG_NAME(tile_of)(M, NV, k, a, a_row, a_k, b, b_k, c, c_row); return;
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

/* One vector of columns of a panel: to[p*MG_WIDTH + lane] = b[p*b_k + lane*b_col], 0 from lane `cols` on. */
static void MG_NAME(pack_strip)(int64_t k, int cols, const REAL *b, int64_t b_k, int64_t b_col, REAL *to)
{
    if (b_k == 1 && cols == LANES)
        for (; k >= LANES; k -= LANES, b += LANES, to += LANES * MG_WIDTH)
            MG_NAME(transpose)(LANES, LANES, b, b_col, to, MG_WIDTH);
    if (b_k == 1)
        for (; k > 0; k -= LANES, b += LANES, to += LANES * MG_WIDTH)
            MG_NAME(transpose)(cols, (int)smaller(k, LANES), b, b_col, to, MG_WIDTH);
    else if (b_col == 1)
        for (; k > 0; k--, b += b_k, to += MG_WIDTH)
            v_store(to, cols == LANES ? v_load(b) : v_load_n(b, cols));
    else
        for (; k > 0; k--, b += b_k, to += MG_WIDTH)
            for (int lane = 0; lane < LANES; lane++) to[lane] = lane < cols ? b[lane * b_col] : 0;
}

/* A panel of up to MG_WIDTH columns. Vectors that lie wholly beyond `cols` are left alone: no tile reads them. */
static void MG_NAME(pack_panel)(int64_t k, int64_t cols, const REAL *b, int64_t b_k, int64_t b_col, REAL *to)
{
    for (int64_t j = 0; j < cols; j += LANES)
        MG_NAME(pack_strip)(k, (int)smaller(LANES, cols - j), b + j * b_col, b_k, b_col, to + j);
}

/* The same for m rows of A: to[p*MG_MR + i] = a[i*a_row + p*a_k]. The memory goes on for a vector behind the last. */
static void MG_NAME(pack_rows)(int m, int64_t k, const REAL *a, int64_t a_row, int64_t a_k, REAL *to)
{
    if (a_row == 1 && LANES >= MG_MR) /* what a store writes too much is the next step's, or slack */
        for (; k > 0; k--, a += a_k, to += MG_MR) v_store(to, v_load_n(a, m));
    else
        for (; k > 0; k--, a += a_k, to += MG_MR)
            for (int i = 0; i < m; i++) to[i] = a[i * a_row];
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

/* c[i][j] = from[i*row + j*col], or 0. */
static void MG_NAME(start_tile)(int m, int64_t cols, const REAL *from, int64_t row, int64_t col, REAL *c, int64_t c_row)
{
    if (from == c && row == c_row && col == 1) return;
    for (int i = 0; i < m; i++) {
        REAL *to = c + i * c_row;
        if (!from) memset(to, 0, (size_t)cols * sizeof(REAL));
        else if (col == 1) memmove(to, from + i * row, (size_t)cols * sizeof(REAL));
        else for (int64_t j = 0; j < cols; j++) to[j] = from[i * row + j * col];
    }
}

/* The whole product on one thread. */
static void MG_NAME(product_run)(const struct MG_NAME(product) *g, REAL *scratch)
{
    const int64_t sum = g->blocks * g->k, nc = MG_NAME(block_columns)(g->n), kc_most = smaller(sum, MG_KC);
    /* Where B is used by one tile of rows only, a copy is pure loss. */
    const int b_stays = g->b_col == 1 && g->blocks == 1 && g->m <= MG_MR;
    const int a_stays = g->a_k == 1 && g->blocks == 1;
    REAL *edge = MG_NAME(aligned)(scratch), *b_block = edge + MG_MR * MG_WIDTH, *a_tile = b_block + kc_most * nc;

    for (int64_t j0 = 0; j0 < g->n; j0 += nc) {
        const int64_t j1 = smaller(j0 + nc, g->n);
        for (int64_t s = 0; s == 0 || s < sum; s += MG_KC) {
            const int64_t kc = smaller(MG_KC, sum - s);
            for (int64_t j = j0; j < j1; j += MG_WIDTH) {
                const int64_t cols = smaller(MG_WIDTH, j1 - j);
                if (b_stays && cols % LANES == 0) continue;
                for (int64_t r = s, run; r < s + kc; r += run) { /* the parts of a block of k that lie evenly */
                    run = smaller(s + kc - r, g->k - r % g->k);
                    MG_NAME(pack_panel)(run, cols, g->b + r / g->k * g->b_block + r % g->k * g->b_k + j * g->b_col,
                                        g->b_k, g->b_col, b_block + (j - j0) * kc + (r - s) * MG_WIDTH);
                }
            }
            for (int64_t i = 0, m; i < g->m; i += m) {
                m = tile_rows(g->m - i);
                const REAL *a = g->a + i * g->a_row + s * g->a_k;
                if (!a_stays) {
                    for (int64_t r = s, run; r < s + kc; r += run) {
                        run = smaller(s + kc - r, g->k - r % g->k);
                        MG_NAME(pack_rows)((int)m, run,
                                           g->a + i * g->a_row + r / g->k * g->a_block + r % g->k * g->a_k,
                                           g->a_row, g->a_k, a_tile + (r - s) * MG_MR);
                    }
                    a = a_tile;
                }
                for (int64_t j = j0; j < j1; j += MG_WIDTH) {
                    const int64_t cols = smaller(MG_WIDTH, j1 - j);
                    const int whole = cols % LANES == 0, first = s == 0;
                    REAL *out = g->out + i * g->out_row + j, *c = whole ? out : edge;
                    const int64_t c_row = whole ? g->out_row : MG_WIDTH;
                    if (first)
                        MG_NAME(start_tile)((int)m, cols, g->start ? g->start + i * g->start_row + j * g->start_col : NULL,
                                            g->start_row, g->start_col, c, c_row);
                    else
                        MG_NAME(start_tile)((int)m, cols, out, g->out_row, 1, c, c_row);
                    const REAL *b = b_block + (j - j0) * kc;
                    int64_t b_k = MG_WIDTH;
                    if (b_stays && whole) b = g->b + s * g->b_k + j, b_k = g->b_k;
                    MG_NAME(tile)((int)m, (int)pieces(cols, LANES), kc, a, a_stays ? g->a_row : 1,
                                  a_stays ? 1 : MG_MR, b, b_k, c, c_row);
                    if (!whole) MG_NAME(start_tile)((int)m, cols, edge, MG_WIDTH, 1, out, g->out_row);
                }
            }
        }
    }
}

/* One thread's share: some of the columns (whole panels) or some of the rows (whole tiles), as even as they come. */
static void MG_NAME(product_part)(void *ctx, int part, int parts)
{
    struct MG_NAME(product) g = *(const struct MG_NAME(product) *)ctx;
    const int64_t panels = pieces(g.n, MG_WIDTH), tiles = pieces(g.m, MG_MR);
    /* The time is that of the largest share; each cut repeats the packing of the other operand. */
    if (pieces(panels, parts) * tiles <= pieces(tiles, parts) * panels) {
        const int64_t from = panels * part / parts * MG_WIDTH, to = smaller(g.n, panels * (part + 1) / parts * MG_WIDTH);
        g.b += from * g.b_col, g.out += from, g.n = to - from;
        if (g.start) g.start += from * g.start_col;
    } else {
        const int64_t from = tiles * part / parts * MG_MR, to = smaller(g.m, tiles * (part + 1) / parts * MG_MR);
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
    if (k == 1) k = blocks, blocks = 1, a_k = a_block, b_k = b_block;
    if (a_block == k * a_k && b_block == k * b_k) k *= blocks, blocks = 1;
    struct MG_NAME(product) g = {m, n, blocks, k, a, a_row, a_block, a_k, b, b_block, b_k, b_col,
                                 start, start_row, start_col, out, out_row, MG_NAME(aligned)(scratch)};
    const int64_t cuts = larger(pieces(n, MG_WIDTH), pieces(m, MG_MR));
    const int parts = (int)smaller(mg_threads(), worthy_parts(m * n * blocks * k, cuts));
    mg_parallel(parts, MG_NAME(product_part), &g);
}
