/* AVX-512 (F, DQ, BW, VL): 32 registers of 16 floats or 8 doubles, lane masks. */
#include <immintrin.h>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define MG_TARGET_PUSHED

typedef __m512 vec_f32;
typedef __m512d vec_f64;
enum { LANES_f32 = 16, LANES_f64 = 8, PART_f32 = 4, PART_f64 = 2 };

/* 6 x 4 accumulators + 4 of B + 1 of A = 29 of 32 registers. The 24 independent chains hide the latency
 * of two FMA ports (2 x 4 cycles) three times over. */
#define MG_MR 6
#define MG_FEW 128

MG_INLINE __m512i bits_f32(vec_f32 a) { return _mm512_castps_si512(a); }
MG_INLINE __m512i bits_f64(vec_f64 a) { return _mm512_castpd_si512(a); }
MG_INLINE vec_f32 real_f32(__m512i i) { return _mm512_castsi512_ps(i); }
MG_INLINE vec_f64 real_f64(__m512i i) { return _mm512_castsi512_pd(i); }
MG_INLINE __mmask16 first_f32(int n) { return (__mmask16)((1u << n) - 1); }
MG_INLINE __mmask8 first_f64(int n) { return (__mmask8)((1u << n) - 1); }

MG_INLINE vec_f32 v_zero_f32(void) { return _mm512_setzero_ps(); }
MG_INLINE vec_f32 v_set1_f32(float x) { return _mm512_set1_ps(x); }
MG_INLINE vec_f32 v_keep_f32(vec_f32 v) { __asm__("" : "+v"(v)); return v; }
MG_INLINE vec_f32 v_load_f32(const float *p) { return _mm512_loadu_ps(p); }
MG_INLINE void v_store_f32(float *p, vec_f32 v) { _mm512_storeu_ps(p, v); }
MG_INLINE vec_f32 v_load_n_f32(const float *p, int n) { return _mm512_maskz_loadu_ps(first_f32(n), p); }
MG_INLINE void v_store_n_f32(float *p, vec_f32 v, int n) { _mm512_mask_storeu_ps(p, first_f32(n), v); }
/* Two halves, each of two loads: Zen 4 fills a register of 256 bits in half the time. */
MG_INLINE vec_f32 v_load_parts_f32(const float *p, int64_t apart)
{
    __m256 low = _mm256_loadu2_m128(p + apart, p), high = _mm256_loadu2_m128(p + 3 * apart, p + 2 * apart);
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return _mm512_unpacklo_ps(a, b); }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return _mm512_unpackhi_ps(a, b); }
MG_INLINE vec_f32 v_add_f32(vec_f32 a, vec_f32 b) { return _mm512_add_ps(a, b); }
MG_INLINE vec_f32 v_sub_f32(vec_f32 a, vec_f32 b) { return _mm512_sub_ps(a, b); }
MG_INLINE vec_f32 v_mul_f32(vec_f32 a, vec_f32 b) { return _mm512_mul_ps(a, b); }
MG_INLINE vec_f32 v_div_f32(vec_f32 a, vec_f32 b) { return _mm512_div_ps(a, b); }
MG_INLINE vec_f32 v_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fmadd_ps(a, b, c); }
MG_INLINE vec_f32 v_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fnmadd_ps(a, b, c); }
MG_INLINE vec_f32 v_min_f32(vec_f32 a, vec_f32 b) { return _mm512_min_ps(a, b); }
MG_INLINE vec_f32 v_max_f32(vec_f32 a, vec_f32 b) { return _mm512_max_ps(a, b); }
MG_INLINE vec_f32 v_abs_f32(vec_f32 a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
MG_INLINE vec_f32 v_neg_f32(vec_f32 a) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a); }
MG_INLINE vec_f32 v_copysign_f32(vec_f32 x, vec_f32 s)
{
    return _mm512_or_ps(v_abs_f32(x), _mm512_and_ps(_mm512_set1_ps(-0.0f), s));
}
MG_INLINE vec_f32 v_select_lt_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
MG_INLINE vec_f32 v_pow2_f32(vec_f32 n)
{
    return real_f32(_mm512_slli_epi32(bits_f32(_mm512_add_ps(n, _mm512_set1_ps(MG_POW2_f32))), 23));
}
MG_INLINE vec_f32 v_exponent_f32(vec_f32 x)
{
    vec_f32 e = _mm512_or_ps(real_f32(_mm512_srli_epi32(bits_f32(x), 23)), _mm512_set1_ps(0x1p23f));
    return _mm512_sub_ps(e, _mm512_set1_ps(MG_EXPONENT_f32));
}
MG_INLINE vec_f32 v_mantissa_f32(vec_f32 x)
{
    return _mm512_or_ps(_mm512_and_ps(x, real_f32(_mm512_set1_epi32(0x7fffff))), _mm512_set1_ps(1.0f));
}

MG_INLINE vec_f64 v_zero_f64(void) { return _mm512_setzero_pd(); }
MG_INLINE vec_f64 v_set1_f64(double x) { return _mm512_set1_pd(x); }
MG_INLINE vec_f64 v_keep_f64(vec_f64 v) { __asm__("" : "+v"(v)); return v; }
MG_INLINE vec_f64 v_load_f64(const double *p) { return _mm512_loadu_pd(p); }
MG_INLINE void v_store_f64(double *p, vec_f64 v) { _mm512_storeu_pd(p, v); }
MG_INLINE vec_f64 v_load_n_f64(const double *p, int n) { return _mm512_maskz_loadu_pd(first_f64(n), p); }
MG_INLINE void v_store_n_f64(double *p, vec_f64 v, int n) { _mm512_mask_storeu_pd(p, first_f64(n), v); }
MG_INLINE vec_f64 v_load_parts_f64(const double *p, int64_t apart)
{
    __m256d low = _mm256_loadu2_m128d(p + apart, p), high = _mm256_loadu2_m128d(p + 3 * apart, p + 2 * apart);
    return _mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1);
}
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return _mm512_unpacklo_pd(a, b); }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return _mm512_unpackhi_pd(a, b); }
MG_INLINE vec_f64 v_add_f64(vec_f64 a, vec_f64 b) { return _mm512_add_pd(a, b); }
MG_INLINE vec_f64 v_sub_f64(vec_f64 a, vec_f64 b) { return _mm512_sub_pd(a, b); }
MG_INLINE vec_f64 v_mul_f64(vec_f64 a, vec_f64 b) { return _mm512_mul_pd(a, b); }
MG_INLINE vec_f64 v_div_f64(vec_f64 a, vec_f64 b) { return _mm512_div_pd(a, b); }
MG_INLINE vec_f64 v_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm512_fmadd_pd(a, b, c); }
MG_INLINE vec_f64 v_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return _mm512_fnmadd_pd(a, b, c); }
MG_INLINE vec_f64 v_min_f64(vec_f64 a, vec_f64 b) { return _mm512_min_pd(a, b); }
MG_INLINE vec_f64 v_max_f64(vec_f64 a, vec_f64 b) { return _mm512_max_pd(a, b); }
MG_INLINE vec_f64 v_abs_f64(vec_f64 a) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), a); }
MG_INLINE vec_f64 v_neg_f64(vec_f64 a) { return _mm512_xor_pd(_mm512_set1_pd(-0.0), a); }
MG_INLINE vec_f64 v_copysign_f64(vec_f64 x, vec_f64 s)
{
    return _mm512_or_pd(v_abs_f64(x), _mm512_and_pd(_mm512_set1_pd(-0.0), s));
}
MG_INLINE vec_f64 v_select_lt_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), y, x);
}
MG_INLINE vec_f64 v_pow2_f64(vec_f64 n)
{
    return real_f64(_mm512_slli_epi64(bits_f64(_mm512_add_pd(n, _mm512_set1_pd(MG_POW2_f64))), 52));
}
MG_INLINE vec_f64 v_exponent_f64(vec_f64 x)
{
    vec_f64 e = _mm512_or_pd(real_f64(_mm512_srli_epi64(bits_f64(x), 52)), _mm512_set1_pd(0x1p52));
    return _mm512_sub_pd(e, _mm512_set1_pd(MG_EXPONENT_f64));
}
MG_INLINE vec_f64 v_mantissa_f64(vec_f64 x)
{
    return _mm512_or_pd(_mm512_and_pd(x, real_f64(_mm512_set1_epi64(0xfffffffffffff))), _mm512_set1_pd(1.0));
}
