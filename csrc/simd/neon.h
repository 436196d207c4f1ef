/* NEON of 64-bit Arm: 32 registers of 4 floats or 2 doubles. v_min and v_max are written with a
 * comparison because the instructions of that name return NaN where the vocabulary returns the second
 * argument. */
#include <arm_neon.h>

typedef float32x4_t vec_f32;
typedef float64x2_t vec_f64;
enum { LANES_f32 = 4, LANES_f64 = 2, PART_f32 = 4, PART_f64 = 2 };

/* 6 x 4 accumulators + 4 of B + 1 of A = 29 of 32 registers. */
#define MG_MR 6
#define MG_FEW MG_MR

MG_INLINE uint32x4_t bits_f32(vec_f32 a) { return vreinterpretq_u32_f32(a); }
MG_INLINE uint64x2_t bits_f64(vec_f64 a) { return vreinterpretq_u64_f64(a); }
MG_INLINE vec_f32 real_f32(uint32x4_t i) { return vreinterpretq_f32_u32(i); }
MG_INLINE vec_f64 real_f64(uint64x2_t i) { return vreinterpretq_f64_u64(i); }

MG_INLINE vec_f32 v_zero_f32(void) { return vdupq_n_f32(0.0f); }
MG_INLINE vec_f32 v_set1_f32(float x) { return vdupq_n_f32(x); }
MG_INLINE vec_f32 v_keep_f32(vec_f32 v) { __asm__("" : "+w"(v)); return v; }
MG_INLINE vec_f32 v_load_f32(const float *p) { return vld1q_f32(p); }
MG_INLINE void v_store_f32(float *p, vec_f32 v) { vst1q_f32(p, v); }
MG_INLINE vec_f32 v_load_n_f32(const float *p, int n)
{
    float first[LANES_f32] = {0};
    for (int i = 0; i < n; i++) first[i] = p[i];
    return vld1q_f32(first);
}
MG_INLINE void v_store_n_f32(float *p, vec_f32 v, int n)
{
    float all[LANES_f32];
    vst1q_f32(all, v);
    for (int i = 0; i < n; i++) p[i] = all[i];
}
MG_INLINE vec_f32 v_load_parts_f32(const float *p, int64_t apart) { return (void)apart, vld1q_f32(p); }
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return vzip1q_f32(a, b); }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return vzip2q_f32(a, b); }
MG_INLINE vec_f32 v_add_f32(vec_f32 a, vec_f32 b) { return vaddq_f32(a, b); }
MG_INLINE vec_f32 v_sub_f32(vec_f32 a, vec_f32 b) { return vsubq_f32(a, b); }
MG_INLINE vec_f32 v_mul_f32(vec_f32 a, vec_f32 b) { return vmulq_f32(a, b); }
MG_INLINE vec_f32 v_div_f32(vec_f32 a, vec_f32 b) { return vdivq_f32(a, b); }
MG_INLINE vec_f32 v_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return vfmaq_f32(c, a, b); }
MG_INLINE vec_f32 v_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return vfmsq_f32(c, a, b); }
MG_INLINE vec_f32 v_min_f32(vec_f32 a, vec_f32 b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
MG_INLINE vec_f32 v_max_f32(vec_f32 a, vec_f32 b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
MG_INLINE vec_f32 v_abs_f32(vec_f32 a) { return vabsq_f32(a); }
MG_INLINE vec_f32 v_neg_f32(vec_f32 a) { return vnegq_f32(a); }
MG_INLINE vec_f32 v_copysign_f32(vec_f32 x, vec_f32 s) { return vbslq_f32(vdupq_n_u32(0x80000000), s, x); }
MG_INLINE vec_f32 v_select_lt_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y)
{
    return vbslq_f32(vcltq_f32(a, b), x, y);
}
MG_INLINE vec_f32 v_pow2_f32(vec_f32 n)
{
    return real_f32(vshlq_n_u32(bits_f32(vaddq_f32(n, vdupq_n_f32(MG_POW2_f32))), 23));
}
MG_INLINE vec_f32 v_exponent_f32(vec_f32 x)
{
    uint32x4_t e = vorrq_u32(vshrq_n_u32(bits_f32(x), 23), bits_f32(vdupq_n_f32(0x1p23f)));
    return vsubq_f32(real_f32(e), vdupq_n_f32(MG_EXPONENT_f32));
}
MG_INLINE vec_f32 v_mantissa_f32(vec_f32 x) { return vbslq_f32(vdupq_n_u32(0x7fffff), x, vdupq_n_f32(1.0f)); }

MG_INLINE vec_f64 v_zero_f64(void) { return vdupq_n_f64(0.0); }
MG_INLINE vec_f64 v_set1_f64(double x) { return vdupq_n_f64(x); }
MG_INLINE vec_f64 v_keep_f64(vec_f64 v) { __asm__("" : "+w"(v)); return v; }
MG_INLINE vec_f64 v_load_f64(const double *p) { return vld1q_f64(p); }
MG_INLINE void v_store_f64(double *p, vec_f64 v) { vst1q_f64(p, v); }
MG_INLINE vec_f64 v_load_n_f64(const double *p, int n)
{
    double first[LANES_f64] = {0};
    for (int i = 0; i < n; i++) first[i] = p[i];
    return vld1q_f64(first);
}
MG_INLINE void v_store_n_f64(double *p, vec_f64 v, int n)
{
    double all[LANES_f64];
    vst1q_f64(all, v);
    for (int i = 0; i < n; i++) p[i] = all[i];
}
MG_INLINE vec_f64 v_load_parts_f64(const double *p, int64_t apart) { return (void)apart, vld1q_f64(p); }
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return vzip1q_f64(a, b); }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return vzip2q_f64(a, b); }
MG_INLINE vec_f64 v_add_f64(vec_f64 a, vec_f64 b) { return vaddq_f64(a, b); }
MG_INLINE vec_f64 v_sub_f64(vec_f64 a, vec_f64 b) { return vsubq_f64(a, b); }
MG_INLINE vec_f64 v_mul_f64(vec_f64 a, vec_f64 b) { return vmulq_f64(a, b); }
MG_INLINE vec_f64 v_div_f64(vec_f64 a, vec_f64 b) { return vdivq_f64(a, b); }
MG_INLINE vec_f64 v_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return vfmaq_f64(c, a, b); }
MG_INLINE vec_f64 v_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return vfmsq_f64(c, a, b); }
MG_INLINE vec_f64 v_min_f64(vec_f64 a, vec_f64 b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
MG_INLINE vec_f64 v_max_f64(vec_f64 a, vec_f64 b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
MG_INLINE vec_f64 v_abs_f64(vec_f64 a) { return vabsq_f64(a); }
MG_INLINE vec_f64 v_neg_f64(vec_f64 a) { return vnegq_f64(a); }
MG_INLINE vec_f64 v_copysign_f64(vec_f64 x, vec_f64 s)
{
    return vbslq_f64(vdupq_n_u64(0x8000000000000000), s, x);
}
MG_INLINE vec_f64 v_select_lt_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y)
{
    return vbslq_f64(vcltq_f64(a, b), x, y);
}
MG_INLINE vec_f64 v_pow2_f64(vec_f64 n)
{
    return real_f64(vshlq_n_u64(bits_f64(vaddq_f64(n, vdupq_n_f64(MG_POW2_f64))), 52));
}
MG_INLINE vec_f64 v_exponent_f64(vec_f64 x)
{
    uint64x2_t e = vorrq_u64(vshrq_n_u64(bits_f64(x), 52), bits_f64(vdupq_n_f64(0x1p52)));
    return vsubq_f64(real_f64(e), vdupq_n_f64(MG_EXPONENT_f64));
}
MG_INLINE vec_f64 v_mantissa_f64(vec_f64 x)
{
    return vbslq_f64(vdupq_n_u64(0xfffffffffffff), x, vdupq_n_f64(1.0));
}
