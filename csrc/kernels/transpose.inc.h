/* A square of LANES x LANES elements, transposed in registers. Matrices that lie the other way round (x w^T
 * with w [n][k] is the common case) are packed through it at the speed of a copy.
 *
 *   v_zip_low(a, b) = a0 b0 a1 b1 ...  from the first halves      v_zip_high(a, b)  from the second halves
 */
#ifndef MG_ZIP
#define MG_ZIP MG_PASTE(MG_ZIP_OF, MG_ISA)
#define MG_ZIP_OF_generic 1
#define MG_ZIP_OF_avx2 2
#define MG_ZIP_OF_avx512 3
#define MG_ZIP_OF_neon 4

#if MG_ZIP == MG_ZIP_OF_avx512
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b)
{
    const __m512i from = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, from, b);
}
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b)
{
    const __m512i from = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, from, b);
}
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), b);
}
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), b);
}
#elif MG_ZIP == MG_ZIP_OF_avx2 /* the unpack instructions zip within halves of 128 bits */
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x20);
}
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b)
{
    return _mm256_permute2f128_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b), 0x31);
}
#elif MG_ZIP == MG_ZIP_OF_neon
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return vzip1q_f32(a, b); }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return vzip2q_f32(a, b); }
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return vzip1q_f64(a, b); }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return vzip2q_f64(a, b); }
#else /* one lane has nothing to zip with */
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return (void)b, a; }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return (void)a, b; }
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return (void)b, a; }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return (void)a, b; }
#endif
#define v_zip_low MG_NAME(v_zip_low)
#define v_zip_high MG_NAME(v_zip_high)
#endif

/* to[j*to_row + i] = from[i*from_row + j] for i < LANES, j < n <= LANES; rows from `rows` on count as 0.
 * Element (i, j) has the address bits (i, j); zipping the first half of the rows with the second rotates
 * these bits by one place, so after log2(LANES) rounds they are (j, i). */
MG_INLINE void MG_NAME(transpose)(int rows, int n, const REAL *from, int64_t from_row,
                                  REAL *to, int64_t to_row)
{
    VEC v[LANES], next[LANES];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < LANES; i++)
        v[i] = i >= rows ? v_zero()
             : n == LANES ? v_load(from + i * from_row) : v_load_n(from + i * from_row, n);
    _Pragma("GCC unroll 4")
    for (int round = 1; round < LANES; round *= 2) {
        _Pragma("GCC unroll 8")
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = v_zip_low(v[i], v[i + LANES / 2]);
            next[2 * i + 1] = v_zip_high(v[i], v[i + LANES / 2]);
        }
        _Pragma("GCC unroll 16")
        for (int i = 0; i < LANES; i++) v[i] = next[i];
    }
    _Pragma("GCC unroll 16")
    for (int j = 0; j < LANES; j++)
        if (j < n) v_store(to + j * to_row, v[j]);
}
