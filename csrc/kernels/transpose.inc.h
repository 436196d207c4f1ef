/* A square of LANES x LANES elements, transposed in registers. Matrices that lie the other way round (x w^T
 * with w [n][k] is the common case) pass through it at little more than the speed of a copy. */

/* v[j] = (from[i*row + j] for i < LANES) for j < LANES. A vector is loaded in parts that belong to rows PART apart,
 * so that element (i, j) of each PART x PART square has the address bits (i, j) within a group of PART vectors;
 * zipping the first half of the group with the second rotates these bits by one place, and after log2(PART)
 * rounds they are (j, i). The loads go through whole cache lines: where rows lie 4096 bytes apart, all of them
 * are in one set of the nearest cache, which does not hold LANES lines. */
MG_INLINE void MG_NAME(load_square)(const REAL *from, int64_t row, VEC *v)
{
    VEC next[PART];
    _Pragma("GCC unroll 4")
    for (int i = 0; i < PART; i++, from += row) {
        MG_HERE(from);
        _Pragma("GCC unroll 4")
        for (int j = 0; j < LANES; j += PART) v[j + i] = v_keep(v_load_parts(from + j, PART * row));
    }
    _Pragma("GCC unroll 4")
    for (int j = 0; j < LANES; j += PART) {
        _Pragma("GCC unroll 2")
        for (int round = 1; round < PART; round *= 2) {
            _Pragma("GCC unroll 2")
            for (int i = 0; i < PART / 2; i++) {
                next[2 * i] = v_zip_low(v[j + i], v[j + i + PART / 2]);
                next[2 * i + 1] = v_zip_high(v[j + i], v[j + i + PART / 2]);
            }
            _Pragma("GCC unroll 4")
            for (int i = 0; i < PART; i++) v[j + i] = next[i];
        }
    }
}

/* to[j*to_row + i] = from[i*from_row + j] for i < LANES, j < n <= LANES; rows from `rows` on count as 0. */
MG_INLINE void MG_NAME(transpose)(int rows, int n, const REAL *from, int64_t from_row,
                                  REAL *to, int64_t to_row)
{
    REAL whole[LANES * LANES];
    VEC v[LANES];
    if (rows < LANES || n < LANES) {
        for (int i = 0; i < LANES; i++)
            v_store(whole + i * LANES, i < rows ? v_load_n(from + i * from_row, n) : v_zero());
        from = whole, from_row = LANES;
    }
    MG_NAME(load_square)(from, from_row, v);
    _Pragma("GCC unroll 16")
    for (int j = 0; j < LANES; j++)
        if (j < n) v_store(to + j * to_row, v[j]);
}
