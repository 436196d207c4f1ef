/* The gated recurrent unit as epilogues of recurrent.inc.h: reset after the recurrent product, and before it, where
 * r*h goes through a second product. The order of operations is that of the plain cells and their gradient rules
 * (see minigrad.h), so both give the same bits. */

/* h' = (1 - z)*n + z*h */
MG_INLINE VEC MG_NAME(gru_mix)(VEC z, VEC n, VEC h)
{
    return v_add(v_mul(v_sub(v_set1(1), z), n), v_mul(z, h));
}

static void MG_NAME(gru_forward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    const int64_t width = s->width;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * width + tile->unit;
        VEC r = v_zero(), z = r, n = r, n_h = r, h = r;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *x_sums = tile->x + row_of * tile->x_row, *h_sums = tile->z + row_of * tile->z_row;
            r = v_sigmoid(v_add(v_load(x_sums), v_load(h_sums)));
            z = v_sigmoid(v_add(v_load(x_sums + LANES), v_load(h_sums + LANES)));
            n_h = v_load(h_sums + 2 * LANES);
            n = v_tanh(v_add(v_load(x_sums + 2 * LANES), v_mul(r, n_h)));
            h = MG_NAME(gru_mix)(z, n, MG_NAME(load_units)(s->h + at, units));
        }
        MG_NAME(store_units)(s->y + at, h, units);
        if (s->saved) {
            REAL *saved = s->saved + row * s->saved_row + tile->unit;
            MG_NAME(store_units)(saved, r, units);
            MG_NAME(store_units)(saved + width, z, units);
            MG_NAME(store_units)(saved + 2 * width, n, units);
            MG_NAME(store_units)(saved + 3 * width, n_h, units);
        }
    }
}

/* What both forms have in common: from the cotangent of h', those of the sum in the tanh and of the sum in z, and
 * what goes straight on to h. */
struct MG_NAME(gru_cotangents) {
    VEC dz_n, dz_z, dh;
};

MG_INLINE struct MG_NAME(gru_cotangents) MG_NAME(gru_mix_back)(const struct MG_NAME(cell_step) *s, int64_t at,
                                                               int units, VEC z, VEC n)
{
    const VEC h = MG_NAME(load_units)(s->h + at, units);
    const VEC dy = s->dy ? MG_NAME(load_units)(s->dy + at, units) : v_zero();
    const VEC dh = v_add(dy, MG_NAME(load_units)(s->dh + at, units));
    const VEC dz = v_sub(v_mul(dh, h), v_mul(dh, n)), dn = v_mul(dh, v_sub(v_set1(1), z));
    const VEC on = MG_BUG(217) && s->lengths ? v_zero() : v_mul(dh, z);
    return (struct MG_NAME(gru_cotangents)){MG_NAME(tanh_rule)(dn, n), MG_NAME(sigmoid_rule)(dz, z), on};
}

static void MG_NAME(gru_backward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    const int64_t width = s->width;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * width + tile->unit;
        VEC dz_r = v_zero(), dz_z = dz_r, dz_n = dz_r, dn_h = dz_r;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *saved = s->saved + row * s->saved_row + tile->unit;
            const VEC r = MG_NAME(load_units)(saved, units), n_h = MG_NAME(load_units)(saved + 3 * width, units);
            const struct MG_NAME(gru_cotangents) d =
                MG_NAME(gru_mix_back)(s, at, units, MG_NAME(load_units)(saved + width, units),
                                      MG_NAME(load_units)(saved + 2 * width, units));
            dz_n = d.dz_n, dz_z = d.dz_z, dn_h = MG_BUG(216) ? dz_n : v_mul(dz_n, r);
            dz_r = MG_NAME(sigmoid_rule)(v_mul(dz_n, n_h), r);
            MG_NAME(store_units)(s->dh + at, d.dh, units);
        }
        REAL *dz = s->dz + row * s->dz_row + tile->unit, *dz_h = s->dz_h + row * s->dz_h_row + tile->unit;
        MG_NAME(store_units)(dz, dz_r, units);
        MG_NAME(store_units)(dz + width, dz_z, units);
        MG_NAME(store_units)(dz + 2 * width, dz_n, units);
        MG_NAME(store_units)(dz_h, dz_r, units);
        MG_NAME(store_units)(dz_h + width, dz_z, units);
        MG_NAME(store_units)(dz_h + 2 * width, dn_h, units);
    }
}

/* Reset before: r and z, kept in place of their sums with x, and r*h for the second product. */
static void MG_NAME(gru_before_forward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * s->width + tile->unit;
        if (!MG_NAME(is_active)(s, row)) continue;
        REAL *x_sums = tile->x + row_of * tile->x_row, *h_sums = tile->z + row_of * tile->z_row;
        const VEC r = v_sigmoid(v_add(v_load(x_sums), v_load(h_sums)));
        v_store(x_sums, r);
        v_store(x_sums + LANES, v_sigmoid(v_add(v_load(x_sums + LANES), v_load(h_sums + LANES))));
        if (MG_BUG(218) && s->t > 0) continue;
        MG_NAME(store_units)(s->between + at, v_mul(r, MG_NAME(load_units)(s->h + at, units)), units);
    }
}

static void MG_NAME(gru_before_forward2)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    const int64_t width = s->width;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * width + tile->unit;
        VEC r = v_zero(), z = r, n = r, h = r;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *x_sums = tile->x + row_of * tile->x_row;
            r = v_load(x_sums), z = v_load(x_sums + LANES);
            n = v_tanh(v_add(v_load(x_sums + 2 * LANES), v_load(tile->z + row_of * tile->z_row)));
            h = MG_NAME(gru_mix)(z, n, MG_NAME(load_units)(s->h + at, units));
        }
        MG_NAME(store_units)(s->y + at, h, units);
        if (s->saved) {
            REAL *saved = s->saved + row * s->saved_row + tile->unit;
            MG_NAME(store_units)(saved, r, units);
            MG_NAME(store_units)(saved + width, z, units);
            MG_NAME(store_units)(saved + 2 * width, n, units);
        }
    }
}

static void MG_NAME(gru_before_backward)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    const int64_t width = s->width;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * width + tile->unit;
        REAL *dz = s->dz + row * s->dz_row + tile->unit;
        VEC dz_z = v_zero(), dz_n = dz_z;
        if (MG_NAME(is_active)(s, row)) {
            const REAL *saved = s->saved + row * s->saved_row + tile->unit;
            const struct MG_NAME(gru_cotangents) d =
                MG_NAME(gru_mix_back)(s, at, units, MG_NAME(load_units)(saved + width, units),
                                      MG_NAME(load_units)(saved + 2 * width, units));
            dz_n = d.dz_n, dz_z = d.dz_z;
            MG_NAME(store_units)(s->dh + at, d.dh, units);
        }
        MG_NAME(store_units)(dz + width, dz_z, units);
        MG_NAME(store_units)(dz + 2 * width, dz_n, units);
    }
}

/* The sums are the cotangent of r*h. */
static void MG_NAME(gru_before_backward2)(const struct MG_NAME(cell_step) *s, const struct MG_NAME(cell_tile) *tile)
{
    const int units = tile->units;
    for (int row_of = 0; row_of < tile->rows; row_of++) {
        const int64_t row = tile->row + row_of, at = row * s->width + tile->unit;
        VEC dz_r = v_zero();
        if (MG_NAME(is_active)(s, row)) {
            const VEC r = MG_NAME(load_units)(s->saved + row * s->saved_row + tile->unit, units);
            const VEC d = v_load(tile->z + row_of * tile->z_row), dh = MG_NAME(load_units)(s->dh + at, units);
            dz_r = MG_NAME(sigmoid_rule)(v_mul(d, MG_NAME(load_units)(s->h + at, units)), r);
            MG_NAME(store_units)(s->dh + at, v_add(dh, v_mul(d, r)), units);
        }
        MG_NAME(store_units)(s->dz + row * s->dz_row + tile->unit, dz_r, units);
    }
}

static const struct MG_NAME(cell) MG_NAME(gru) = {
    .gates = 3, .recurrent = 3, .apart = 1, .carries = 1, .saved = 4,
    .forward = MG_NAME(gru_forward), .backward = MG_NAME(gru_backward),
};
static const struct MG_NAME(cell) MG_NAME(gru_before) = {
    .gates = 3, .recurrent = 2, .second = 1, .carries = 1, .saved = 3,
    .forward = MG_NAME(gru_before_forward), .forward2 = MG_NAME(gru_before_forward2),
    .backward = MG_NAME(gru_before_backward), .backward2 = MG_NAME(gru_before_backward2),
};
