/* The simplest recurrent layer, h = f(U h + W x): tanh or relu, as epilogues of recurrent.inc.h. What the backward
 * pass wants to know is h itself. */

/* g where y = relu(x) is positive or NaN. */
MG_INLINE VEC MG_NAME(relu_rule)(VEC g, VEC y)
{
    const VEC zero = v_zero();
    return v_select_lt(zero, y, g, v_select_lt(y, MG_BUG(221) ? zero : v_set1(1), zero, g));
}

/* +0 of both zeros, which v_max does not promise. */
MG_INLINE VEC MG_NAME(relu)(VEC x)
{
    const VEC zero = v_zero();
    return v_select_lt(zero, x, x, v_select_lt(x, v_set1(1), zero, x));
}

MG_INLINE void MG_NAME(rnn_forward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile,
                                    VEC (*f)(VEC))
{
    const int n = tile->units;
    for (int r = 0; r < tile->rows; r++) {
        const int64_t row = tile->row + r;
        VEC h = v_zero();
        if (MG_NAME(is_active)(s, row))
            h = f(v_add(v_load(tile->z + r * tile->z_row), v_load(tile->x + r * tile->x_row)));
        MG_NAME(store_units)(s->y + row * s->width + tile->unit, h, n);
    }
}

MG_INLINE void MG_NAME(rnn_backward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile,
                                     VEC (*rule)(VEC, VEC))
{
    const int n = tile->units;
    for (int r = 0; r < tile->rows; r++) {
        const int64_t row = tile->row + r, at = row * s->width + tile->unit;
        VEC dz = v_zero();
        if (MG_NAME(is_active)(s, row)) {
            const VEC dy = s->dy ? MG_NAME(load_units)(s->dy + at, n) : v_zero();
            const VEC dh = v_add(dy, MG_NAME(load_units)(s->dh + at, n));
            dz = rule(dh, MG_NAME(load_units)(s->y + at, n));
        }
        MG_NAME(store_units)(s->dz + row * s->dz_row + tile->unit, dz, n);
    }
}

MG_CELL_FUNCTION(rnn_tanh_forward, rnn_forward, v_tanh)
MG_CELL_FUNCTION(rnn_tanh_backward, rnn_backward, MG_NAME(tanh_rule))
MG_CELL_FUNCTION(rnn_relu_forward, rnn_forward, MG_NAME(relu))
MG_CELL_FUNCTION(rnn_relu_backward, rnn_backward, MG_NAME(relu_rule))

static const struct MG_NAME(cell) MG_NAME(rnn_tanh) = {
    .gates = 1, .recurrent = 1, .forward = MG_NAME(rnn_tanh_forward), .backward = MG_NAME(rnn_tanh_backward),
};
static const struct MG_NAME(cell) MG_NAME(rnn_relu) = {
    .gates = 1, .recurrent = 1, .forward = MG_NAME(rnn_relu_forward), .backward = MG_NAME(rnn_relu_backward),
};
