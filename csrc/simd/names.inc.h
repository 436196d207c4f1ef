/* Lets one kernel text serve float and double: include with MG_DOUBLE 0 or 1 before the kernels of that
 * dtype. REAL, VEC, LANES and the v_ functions then mean those of the dtype; MG_NAME(gemm) is gemm_f32 or
 * gemm_f64. */
#undef REAL
#undef MG_SUFFIX
#if MG_DOUBLE
#define REAL double
#define MG_SUFFIX f64
#else
#define REAL float
#define MG_SUFFIX f32
#endif

#ifndef MG_NAME
#define MG_PASTE_(name, suffix) name##_##suffix
#define MG_PASTE(name, suffix) MG_PASTE_(name, suffix)
#define MG_NAME(name) MG_PASTE(name, MG_SUFFIX)

#define VEC MG_NAME(vec)
#define LANES MG_NAME(LANES)
#define PART MG_NAME(PART)

#define v_zero MG_NAME(v_zero)
#define v_set1 MG_NAME(v_set1)
#define v_keep MG_NAME(v_keep)
#define v_load MG_NAME(v_load)
#define v_store MG_NAME(v_store)
#define v_load_n MG_NAME(v_load_n)
#define v_store_n MG_NAME(v_store_n)
#define v_load_parts MG_NAME(v_load_parts)
#define v_zip_low MG_NAME(v_zip_low)
#define v_zip_high MG_NAME(v_zip_high)
#define v_add MG_NAME(v_add)
#define v_sub MG_NAME(v_sub)
#define v_mul MG_NAME(v_mul)
#define v_div MG_NAME(v_div)
#define v_fma MG_NAME(v_fma)
#define v_fnma MG_NAME(v_fnma)
#define v_min MG_NAME(v_min)
#define v_max MG_NAME(v_max)
#define v_abs MG_NAME(v_abs)
#define v_neg MG_NAME(v_neg)
#define v_copysign MG_NAME(v_copysign)
#define v_select_lt MG_NAME(v_select_lt)
#define v_pow2 MG_NAME(v_pow2)
#define v_exponent MG_NAME(v_exponent)
#define v_mantissa MG_NAME(v_mantissa)
#define v_exp MG_NAME(v_exp)
#define v_log MG_NAME(v_log)
#define v_tanh MG_NAME(v_tanh)
#define v_sigmoid MG_NAME(v_sigmoid)
#define v_softplus MG_NAME(v_softplus)
#define v_erf MG_NAME(v_erf)
#endif
