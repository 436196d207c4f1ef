/* The LSTM: its cell forward and backward as epilogues of recurrent.inc.h, with a candidate that is a tanh or a
 * sigmoid, and with peepholes where the step has weights p for them, slots i f o. The order of operations is that
 * of the plain cell and its gradient rules (see minigrad.h), so both give the same bits. */

MG_INLINE void MG_NAME(lstm_forward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile,
                                     const int sigmoid_candidate)
{
    const int n = tile->units;
    const int64_t width = s->width;
    const REAL *p = s->p ? s->p + tile->unit : NULL;
    const VEC zero = v_zero();
    for (int r = 0; r < tile->rows; r++) {
        const int64_t row = tile->row + r, at = row * width + tile->unit;
        VEC i = zero, f = zero, g = zero, o = zero, c = zero, h = zero;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *z = tile->z + r * tile->z_row;
            const VEC c_prev = MG_NAME(load_units)(s->c + at, n);
            i = v_load(z), f = v_load(z + LANES), g = v_load(z + 2 * LANES), o = v_load(z + 3 * LANES);
            if (p) {
                i = v_add(i, v_mul(c_prev, MG_NAME(load_units)(p, n)));
                f = v_add(f, v_mul(c_prev, MG_NAME(load_units)(p + width, n)));
            }
            i = v_sigmoid(i), f = v_sigmoid(f), g = sigmoid_candidate ? v_sigmoid(g) : v_tanh(g);
            c = v_add(v_mul(f, c_prev), v_mul(i, g));
            if (p) o = v_add(o, v_mul(MG_BUG(220) ? c_prev : c, MG_NAME(load_units)(p + 2 * width, n)));
            o = v_sigmoid(o);
            h = v_mul(o, v_tanh(c));
            MG_NAME(store_units)(s->c + at, c, n);
        }
        MG_NAME(store_units)(s->y + at, h, n);
        if (s->saved) {
            REAL *saved = s->saved + row * s->saved_row + tile->unit;
            MG_NAME(store_units)(saved, i, n);
            MG_NAME(store_units)(saved + width, f, n);
            MG_NAME(store_units)(saved + 2 * width, g, n);
            MG_NAME(store_units)(saved + 3 * width, o, n);
            MG_NAME(store_units)(saved + 4 * width, c, n);
        }
    }
}

MG_INLINE void MG_NAME(lstm_backward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile,
                                      const int sigmoid_candidate)
{
    const int n = tile->units;
    const int64_t width = s->width;
    const REAL *p = s->p ? s->p + tile->unit : NULL;
    const VEC one = v_set1(1);
    for (int r = 0; r < tile->rows; r++) {
        const int64_t row = tile->row + r, at = row * width + tile->unit;
        VEC dz_i = v_zero(), dz_f = dz_i, dz_g = dz_i, dz_o = dz_i;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *saved = s->saved + row * s->saved_row + tile->unit;
            const VEC i = MG_NAME(load_units)(saved, n), f = MG_NAME(load_units)(saved + width, n);
            const VEC g = MG_NAME(load_units)(saved + 2 * width, n), o = MG_NAME(load_units)(saved + 3 * width, n);
            const VEC tc = v_tanh(MG_NAME(load_units)(saved + 4 * width, n));
            const VEC c_prev = MG_NAME(load_units)(s->c_prev + row * s->c_prev_row + tile->unit, n);
            /* No dy is a dy of zeros: the sum makes +0 of -0 either way. */
            const VEC dy = s->dy ? MG_NAME(load_units)(s->dy + at, n) : v_zero();
            const VEC dh = v_add(dy, MG_NAME(load_units)(s->dh + at, n));
            VEC dc = MG_NAME(load_units)(s->dc + at, n);
            dc = v_add(dc, v_mul(v_mul(dh, o), v_sub(one, v_mul(tc, tc))));
            dz_o = MG_NAME(sigmoid_rule)(v_mul(dh, tc), o);
            if (p) dc = v_add(dc, v_mul(dz_o, MG_NAME(load_units)(p + 2 * width, n)));
            dz_i = MG_NAME(sigmoid_rule)(v_mul(dc, g), i);
            dz_f = MG_NAME(sigmoid_rule)(v_mul(dc, c_prev), f);
            dz_g = v_mul(dc, i);
            dz_g = sigmoid_candidate ? MG_NAME(sigmoid_rule)(dz_g, g) : MG_NAME(tanh_rule)(dz_g, g);
            dc = v_mul(dc, f);
            if (p) {
                dc = v_add(dc, v_mul(dz_f, MG_NAME(load_units)(p + width, n)));
                dc = v_add(dc, v_mul(dz_i, MG_NAME(load_units)(p, n)));
            }
            MG_NAME(store_units)(s->dc + at, dc, n);
        }
        REAL *dz = s->dz + row * s->dz_row + tile->unit;
        MG_NAME(store_units)(dz, dz_i, n);
        MG_NAME(store_units)(dz + width, dz_f, n);
        MG_NAME(store_units)(dz + 2 * width, dz_g, n);
        MG_NAME(store_units)(dz + 3 * width, dz_o, n);
    }
}

MG_CELL_FUNCTION(lstm_tanh_forward, lstm_forward, 0)
MG_CELL_FUNCTION(lstm_tanh_backward, lstm_backward, 0)
MG_CELL_FUNCTION(lstm_sigmoid_forward, lstm_forward, 1)
MG_CELL_FUNCTION(lstm_sigmoid_backward, lstm_backward, 1)

static const struct MG_NAME(cell) MG_NAME(lstm) = {
    .gates = 4, .recurrent = 4, .joined = 1, .saved = 5,
    .forward = MG_NAME(lstm_tanh_forward), .backward = MG_NAME(lstm_tanh_backward),
};
static const struct MG_NAME(cell) MG_NAME(lstm_sigmoid) = {
    .gates = 4, .recurrent = 4, .joined = 1, .saved = 5,
    .forward = MG_NAME(lstm_sigmoid_forward), .backward = MG_NAME(lstm_sigmoid_backward),
};
