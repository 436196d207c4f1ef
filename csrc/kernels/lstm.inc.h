/* The LSTM: its cell forward and backward as epilogues of recurrent.inc.h. The order of operations is that of
 * the plain cell and its gradient rules (see minigrad.h), so both give the same bits. */

static void MG_NAME(lstm_cell)(const struct MG_NAME(cell_tile) *tile)
{
    const int n = tile->units;
    const int64_t width = tile->width;
    const VEC zero = v_zero();
    for (int r = 0; r < tile->rows; r++) {
        const int active = MG_NAME(is_active)(tile, r);
        VEC i = zero, f = zero, g = zero, o = zero, c = zero, h = zero;
        if (active) {
            const REAL *z = tile->z + r * MG_WIDTH;
            i = v_sigmoid(v_load(z));
            f = v_sigmoid(v_load(z + LANES));
            g = v_tanh(v_load(z + 2 * LANES));
            o = v_sigmoid(v_load(z + 3 * LANES));
            REAL *state = tile->c + r * width;
            c = v_add(v_mul(f, MG_NAME(load_units)(state, n)), v_mul(i, g));
            h = v_mul(o, v_tanh(c));
            MG_NAME(store_units)(state, c, n);
        }
        MG_NAME(store_units)(tile->y + r * width, h, n);
        if (tile->cells) MG_NAME(store_units)(tile->cells + r * width, c, n);
        if (tile->gates) {
            REAL *gates = tile->gates + r * 4 * width;
            MG_NAME(store_units)(gates, i, n);
            MG_NAME(store_units)(gates + width, f, n);
            MG_NAME(store_units)(gates + 2 * width, g, n);
            MG_NAME(store_units)(gates + 3 * width, o, n);
        }
    }
}

static void MG_NAME(lstm_cell_back)(const struct MG_NAME(cell_tile) *tile)
{
    const int n = tile->units;
    const int64_t width = tile->width;
    const VEC one = v_set1(1);
    for (int r = 0; r < tile->rows; r++) {
        VEC dz_i = v_zero(), dz_f = dz_i, dz_g = dz_i, dz_o = dz_i;
        if (MG_NAME(is_active)(tile, r)) {
            const REAL *gates = tile->gates + r * 4 * width;
            const VEC i = MG_NAME(load_units)(gates, n);
            const VEC f = MG_NAME(load_units)(gates + width, n);
            const VEC g = MG_NAME(load_units)(gates + 2 * width, n);
            const VEC o = MG_NAME(load_units)(gates + 3 * width, n);
            const VEC c_prev = MG_NAME(load_units)(tile->c_prev + r * width, n);
            VEC dh = MG_NAME(load_units)(tile->dh + r * width, n);
            /* No dy is a dy of zeros: the sum makes +0 of -0 either way. */
            dh = v_add(tile->dy ? MG_NAME(load_units)(tile->dy + r * width, n) : v_zero(), dh);
            const VEC tc = v_tanh(MG_NAME(load_units)(tile->cells + r * width, n));
            const VEC d_o = v_mul(dh, tc);
            VEC dc = MG_NAME(load_units)(tile->dc + r * width, n);
            dc = v_add(dc, v_mul(v_mul(dh, o), v_sub(one, v_mul(tc, tc))));
            const VEC d_f = v_mul(dc, c_prev), d_i = v_mul(dc, g), d_g = v_mul(dc, i);
            MG_NAME(store_units)(tile->dc + r * width, v_mul(dc, f), n);
            dz_i = v_mul(v_mul(d_i, i), v_sub(one, i));
            dz_f = v_mul(v_mul(d_f, f), v_sub(one, f));
            dz_g = v_mul(d_g, v_sub(one, v_mul(g, g)));
            dz_o = v_mul(v_mul(d_o, o), v_sub(one, o));
        }
        REAL *dz = tile->dz + r * 4 * width;
        MG_NAME(store_units)(dz, dz_i, n);
        MG_NAME(store_units)(dz + width, dz_f, n);
        MG_NAME(store_units)(dz + 2 * width, dz_g, n);
        MG_NAME(store_units)(dz + 3 * width, dz_o, n);
    }
}

static int64_t MG_NAME(lstm_scratch)(int64_t T, int64_t N, int64_t I, int64_t H)
{
    return MG_NAME(sequence_scratch)(T, N, I, H) * (int64_t)sizeof(REAL) + 64;
}

static void MG_NAME(lstm_forward_part)(void *ctx, int part, int parts)
{
    MG_NAME(row_part)(ctx, part, parts, MG_NAME(lstm_cell), 0);
}

static void MG_NAME(lstm_backward_part)(void *ctx, int part, int parts)
{
    MG_NAME(row_part)(ctx, part, parts, MG_NAME(lstm_cell_back), 1);
}

static void MG_NAME(lstm_forward)(int64_t T, int64_t N, int64_t I, int64_t H,
                                  const void *x, const void *w, const void *u, const void *b,
                                  const void *h0, const void *c0, const int64_t *lengths,
                                  void *y, void *h_last, void *c_last, void *gates, void *cells,
                                  void *scratch)
{
    struct MG_NAME(sequence) s = {.T = T, .N = N, .I = I, .H = H, .lengths = lengths,
                                  .x = x, .w = w, .u = u, .b = b, .h0 = h0, .c0 = c0,
                                  .y = y, .h = h_last, .c = c_last, .gates = gates, .cells = cells};
    MG_NAME(run_forward)(&s, scratch, MG_NAME(lstm_forward_part));
}

static void MG_NAME(lstm_backward)(int64_t T, int64_t N, int64_t H,
                                   const void *u, const void *c0, const int64_t *lengths,
                                   const void *gates, const void *cells,
                                   const void *dy, const void *dh_last, const void *dc_last,
                                   void *dz, void *dh0, void *dc0, void *scratch)
{
    /* The driver reads gates and cells here; the forward pass writes them through the same members. */
    struct MG_NAME(sequence) s = {.T = T, .N = N, .H = H, .lengths = lengths, .u = u, .c0 = c0,
                                  .gates = (REAL *)gates, .cells = (REAL *)cells,
                                  .dy = dy, .dz = dz, .dh = dh0, .dc = dc0};
    MG_NAME(run_backward)(&s, dh_last, dc_last, scratch, MG_NAME(lstm_backward_part));
}
