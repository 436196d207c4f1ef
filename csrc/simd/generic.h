/* Vectors of width one in plain C: the meaning of every other header, and the build for any other machine. */

typedef float vec_f32;
typedef double vec_f64;
enum { LANES_f32 = 1, LANES_f64 = 1, PART_f32 = 1, PART_f64 = 1 };

/* 2 x 4 accumulators + 4 of B + 1 of A = 13 of 16 scalar registers. */
#define MG_MR 2
#define MG_FEW MG_MR

MG_INLINE uint32_t bits_f32(float x) { uint32_t i; memcpy(&i, &x, sizeof i); return i; }
MG_INLINE uint64_t bits_f64(double x) { uint64_t i; memcpy(&i, &x, sizeof i); return i; }
MG_INLINE float real_f32(uint32_t i) { float x; memcpy(&x, &i, sizeof x); return x; }
MG_INLINE double real_f64(uint64_t i) { double x; memcpy(&x, &i, sizeof x); return x; }

MG_INLINE vec_f32 v_zero_f32(void) { return 0.0f; }
MG_INLINE vec_f32 v_set1_f32(float x) { return x; }
MG_INLINE vec_f32 v_keep_f32(vec_f32 v) { return v; }
MG_INLINE vec_f32 v_load_f32(const float *p) { return *p; }
MG_INLINE void v_store_f32(float *p, vec_f32 v) { *p = v; }
MG_INLINE vec_f32 v_load_n_f32(const float *p, int n) { return n > 0 ? *p : 0.0f; }
MG_INLINE void v_store_n_f32(float *p, vec_f32 v, int n) { if (n > 0) *p = v; }
MG_INLINE vec_f32 v_load_parts_f32(const float *p, int64_t apart) { return (void)apart, *p; }
MG_INLINE vec_f32 v_zip_low_f32(vec_f32 a, vec_f32 b) { return (void)b, a; }
MG_INLINE vec_f32 v_zip_high_f32(vec_f32 a, vec_f32 b) { return (void)a, b; }
MG_INLINE vec_f32 v_add_f32(vec_f32 a, vec_f32 b) { return a + b; }
MG_INLINE vec_f32 v_sub_f32(vec_f32 a, vec_f32 b) { return a - b; }
MG_INLINE vec_f32 v_mul_f32(vec_f32 a, vec_f32 b) { return a * b; }
MG_INLINE vec_f32 v_div_f32(vec_f32 a, vec_f32 b) { return a / b; }
MG_INLINE vec_f32 v_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return fmaf(a, b, c); }
MG_INLINE vec_f32 v_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c) { return fmaf(-a, b, c); }
MG_INLINE vec_f32 v_min_f32(vec_f32 a, vec_f32 b) { return a < b ? a : b; }
MG_INLINE vec_f32 v_max_f32(vec_f32 a, vec_f32 b) { return a > b ? a : b; }
MG_INLINE vec_f32 v_abs_f32(vec_f32 a) { return fabsf(a); }
MG_INLINE vec_f32 v_neg_f32(vec_f32 a) { return -a; }
MG_INLINE vec_f32 v_copysign_f32(vec_f32 x, vec_f32 s) { return copysignf(x, s); }
MG_INLINE vec_f32 v_select_lt_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y) { return a < b ? x : y; }
MG_INLINE vec_f32 v_pow2_f32(vec_f32 n) { return real_f32(bits_f32(n + MG_POW2_f32) << 23); }
MG_INLINE vec_f32 v_exponent_f32(vec_f32 x)
{
    return real_f32(bits_f32(x) >> 23 | bits_f32(0x1p23f)) - MG_EXPONENT_f32;
}
MG_INLINE vec_f32 v_mantissa_f32(vec_f32 x) { return real_f32((bits_f32(x) & 0x7fffff) | bits_f32(1.0f)); }

MG_INLINE vec_f64 v_zero_f64(void) { return 0.0; }
MG_INLINE vec_f64 v_set1_f64(double x) { return x; }
MG_INLINE vec_f64 v_keep_f64(vec_f64 v) { return v; }
MG_INLINE vec_f64 v_load_f64(const double *p) { return *p; }
MG_INLINE void v_store_f64(double *p, vec_f64 v) { *p = v; }
MG_INLINE vec_f64 v_load_n_f64(const double *p, int n) { return n > 0 ? *p : 0.0; }
MG_INLINE void v_store_n_f64(double *p, vec_f64 v, int n) { if (n > 0) *p = v; }
MG_INLINE vec_f64 v_load_parts_f64(const double *p, int64_t apart) { return (void)apart, *p; }
MG_INLINE vec_f64 v_zip_low_f64(vec_f64 a, vec_f64 b) { return (void)b, a; }
MG_INLINE vec_f64 v_zip_high_f64(vec_f64 a, vec_f64 b) { return (void)a, b; }
MG_INLINE vec_f64 v_add_f64(vec_f64 a, vec_f64 b) { return a + b; }
MG_INLINE vec_f64 v_sub_f64(vec_f64 a, vec_f64 b) { return a - b; }
MG_INLINE vec_f64 v_mul_f64(vec_f64 a, vec_f64 b) { return a * b; }
MG_INLINE vec_f64 v_div_f64(vec_f64 a, vec_f64 b) { return a / b; }
MG_INLINE vec_f64 v_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return MG_BUG(212) ? a * b + c : fma(a, b, c); }
MG_INLINE vec_f64 v_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c) { return fma(-a, b, c); }
MG_INLINE vec_f64 v_min_f64(vec_f64 a, vec_f64 b) { return a < b ? a : b; }
MG_INLINE vec_f64 v_max_f64(vec_f64 a, vec_f64 b) { return a > b ? a : b; }
MG_INLINE vec_f64 v_abs_f64(vec_f64 a) { return fabs(a); }
MG_INLINE vec_f64 v_neg_f64(vec_f64 a) { return -a; }
MG_INLINE vec_f64 v_copysign_f64(vec_f64 x, vec_f64 s) { return copysign(x, s); }
MG_INLINE vec_f64 v_select_lt_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y) { return a < b ? x : y; }
MG_INLINE vec_f64 v_pow2_f64(vec_f64 n) { return real_f64(bits_f64(n + MG_POW2_f64) << 52); }
MG_INLINE vec_f64 v_exponent_f64(vec_f64 x)
{
    return real_f64(bits_f64(x) >> 52 | bits_f64(0x1p52)) - MG_EXPONENT_f64;
}
MG_INLINE vec_f64 v_mantissa_f64(vec_f64 x)
{
    return real_f64((bits_f64(x) & 0xfffffffffffff) | bits_f64(1.0));
}
