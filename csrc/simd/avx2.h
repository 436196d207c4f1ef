/* AVX2 with FMA: 16 registers of 8 floats or 4 doubles. */
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define MG_TARGET_PUSHED

typedef __m256 vec_f32;
typedef __m256d vec_f64;
enum { LANES_f32 = 8, LANES_f64 = 4, PART_f32 = 4, PART_f64 = 2 };

/* 3 x 4 accumulators + 1 of B + 3 of A = 16 of 16 registers. The 12 independent chains just hide the
 * latency of two FMA ports (2 x 4 or 2 x 5 cycles). */
#define MG_MR 3
#define MG_FEW MG_MR

MG_INLINE __m256i bits_f32(vec_f32 a) { return _mm256_castps_si256(a); }
MG_INLINE __m256i bits_f64(vec_f64 a) { return _mm256_castpd_si256(a); }
MG_INLINE vec_f32 real_f32(__m256i i) { return _mm256_castsi256_ps(i); }
MG_INLINE vec_f64 real_f64(__m256i i) { return _mm256_castsi256_pd(i); }
MG_INLINE __m256i first_f32(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
MG_INLINE __m256i first_f64(int n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

MG_INLINE vec_f32 v_zero_f32(void) { return _mm256_setzero_ps(); }
MG_INLINE vec_f32 v_set1_f32(float x) { return _mm256_set1_ps(x); }
MG_INLINE vec_f32 v_keep_f32(vec_f32 v) { __asm__("" : "+x"(v)); return v; }
MG_INLINE vec_f32 v_load_f32(const float *p) { return _mm256_loadu_ps(p); }
MG_INLINE void v_store_f32(float *p, vec_f32 v) { _mm256_storeu_ps(p, v); }
MG_INLINE vec_f32 v_load_n_f32(const float *p, int n) { return _mm256_maskload_ps(p, first_f32(n)); }
MG_INLINE void v_store_n_f32(float *p, vec_f32 v, int n) { _mm256_maskstore_ps(p, first_f32(n), v); }
MG_INLINE vec_f32 v_load_parts_f32(const float *p, int64_t apart) { return _mm256_loadu2_m128(p + apart, p); }
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return _mm256_unpacklo_ps(a, b); }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return _mm256_unpackhi_ps(a, b); }
MG_INLINE vec_f32 v_add_f32(vec_f32 a, vec_f32 b) { return _mm256_add_ps(a, b); }
MG_INLINE vec_f32 v_sub_f32(vec_f32 a, vec_f32 b) { return _mm256_sub_ps(a, b); }
MG_INLINE vec_f32 v_mul_f32(vec_f32 a, vec_f32 b) { return _mm256_mul_ps(a, b); }
MG_INLINE vec_f32 v_div_f32(vec_f32 a, vec_f32 b) { return _mm256_div_ps(a, b); }
MG_INLINE vec_f32 v_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fmadd_ps(a, b, c); }
MG_INLINE vec_f32 v_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fnmadd_ps(a, b, c); }
MG_INLINE vec_f32 v_min_f32(vec_f32 a, vec_f32 b) { return _mm256_min_ps(a, b); }
MG_INLINE vec_f32 v_max_f32(vec_f32 a, vec_f32 b) { return _mm256_max_ps(a, b); }
MG_INLINE vec_f32 v_abs_f32(vec_f32 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
MG_INLINE vec_f32 v_neg_f32(vec_f32 a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
MG_INLINE vec_f32 v_copysign_f32(vec_f32 x, vec_f32 s)
{
    return _mm256_or_ps(v_abs_f32(x), _mm256_and_ps(_mm256_set1_ps(-0.0f), s));
}
MG_INLINE vec_f32 v_select_lt_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
MG_INLINE vec_f32 v_pow2_f32(vec_f32 n)
{
    return real_f32(_mm256_slli_epi32(bits_f32(_mm256_add_ps(n, _mm256_set1_ps(MG_POW2_f32))), 23));
}
MG_INLINE vec_f32 v_exponent_f32(vec_f32 x)
{
    vec_f32 e = _mm256_or_ps(real_f32(_mm256_srli_epi32(bits_f32(x), 23)), _mm256_set1_ps(0x1p23f));
    return _mm256_sub_ps(e, _mm256_set1_ps(MG_EXPONENT_f32));
}
MG_INLINE vec_f32 v_mantissa_f32(vec_f32 x)
{
    return _mm256_or_ps(_mm256_and_ps(x, real_f32(_mm256_set1_epi32(0x7fffff))), _mm256_set1_ps(1.0f));
}

MG_INLINE vec_f64 v_zero_f64(void) { return _mm256_setzero_pd(); }
MG_INLINE vec_f64 v_set1_f64(double x) { return _mm256_set1_pd(x); }
MG_INLINE vec_f64 v_keep_f64(vec_f64 v) { __asm__("" : "+x"(v)); return v; }
MG_INLINE vec_f64 v_load_f64(const double *p) { return _mm256_loadu_pd(p); }
MG_INLINE void v_store_f64(double *p, vec_f64 v) { _mm256_storeu_pd(p, v); }
MG_INLINE vec_f64 v_load_n_f64(const double *p, int n) { return _mm256_maskload_pd(p, first_f64(n)); }
MG_INLINE void v_store_n_f64(double *p, vec_f64 v, int n) { _mm256_maskstore_pd(p, first_f64(n), v); }
MG_INLINE vec_f64 v_load_parts_f64(const double *p, int64_t apart) { return _mm256_loadu2_m128d(p + apart, p); }
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return _mm256_unpacklo_pd(a, b); }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return _mm256_unpackhi_pd(a, b); }
MG_INLINE vec_f64 v_add_f64(vec_f64 a, vec_f64 b) { return _mm256_add_pd(a, b); }
MG_INLINE vec_f64 v_sub_f64(vec_f64 a, vec_f64 b) { return _mm256_sub_pd(a, b); }
MG_INLINE vec_f64 v_mul_f64(vec_f64 a, vec_f64 b) { return _mm256_mul_pd(a, b); }
MG_INLINE vec_f64 v_div_f64(vec_f64 a, vec_f64 b) { return _mm256_div_pd(a, b); }
MG_INLINE vec_f64 v_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm256_fmadd_pd(a, b, c); }
MG_INLINE vec_f64 v_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm256_fnmadd_pd(a, b, c); }
MG_INLINE vec_f64 v_min_f64(vec_f64 a, vec_f64 b) { return _mm256_min_pd(a, b); }
MG_INLINE vec_f64 v_max_f64(vec_f64 a, vec_f64 b) { return _mm256_max_pd(a, b); }
MG_INLINE vec_f64 v_abs_f64(vec_f64 a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
MG_INLINE vec_f64 v_neg_f64(vec_f64 a) { return _mm256_xor_pd(_mm256_set1_pd(-0.0), a); }
MG_INLINE vec_f64 v_copysign_f64(vec_f64 x, vec_f64 s)
{
    return _mm256_or_pd(v_abs_f64(x), _mm256_and_pd(_mm256_set1_pd(-0.0), s));
}
MG_INLINE vec_f64 v_select_lt_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y)
{
    return _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}
MG_INLINE vec_f64 v_pow2_f64(vec_f64 n)
{
    return real_f64(_mm256_slli_epi64(bits_f64(_mm256_add_pd(n, _mm256_set1_pd(MG_POW2_f64))), 52));
}
MG_INLINE vec_f64 v_exponent_f64(vec_f64 x)
{
    vec_f64 e = _mm256_or_pd(real_f64(_mm256_srli_epi64(bits_f64(x), 52)), _mm256_set1_pd(0x1p52));
    return _mm256_sub_pd(e, _mm256_set1_pd(MG_EXPONENT_f64));
}
MG_INLINE vec_f64 v_mantissa_f64(vec_f64 x)
{
    return _mm256_or_pd(_mm256_and_pd(x, real_f64(_mm256_set1_epi64x(0xfffffffffffff))), _mm256_set1_pd(1.0));
}
