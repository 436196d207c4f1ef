/* The vector vocabulary. Define MG_ISA as generic, avx2, avx512 or neon, include this file before any kernel
 * and simd/end.h after the last one: what stands between is compiled for that instruction set, whatever the
 * flags say.
 *
 * Every header defines the same functions for float (_f32) and double (_f64); names.inc.h lets a kernel drop
 * the suffix. Each is one IEEE operation per lane or pure bit work, hence equal to the bit everywhere:
 *
 *   v_load(p)  v_store(p, v)        LANES values, any alignment
 *   v_load_n(p, n)                  the first n lanes, 0 <= n <= LANES; the rest reads as 0
 *   v_store_n(p, v, n)              writes the first n lanes; neither touches memory beyond them
 *   v_load_parts(p, apart)          PART values (128 bits) of each of LANES/PART rows: those at p, p + apart ...
 *   v_zip_low(a, b)                 a0 b0 a1 b1 ... of the first halves of each part of 128 bits
 *   v_zip_high(a, b)                the same of the second halves
 *   v_set1(x)                       x in every lane
 *   v_keep(v)                       v, loaded once: without the empty asm the compiler may fold the load of v
 *                                   into every FMA that uses it, and loads become the limit
 *   v_zero()  v_add  v_sub  v_mul  v_div  v_neg  v_abs
 *   v_fma(a, b, c) = a*b + c        v_fnma(a, b, c) = c - a*b       (one rounding)
 *   v_min(a, b) = a < b ? a : b     v_max(a, b) = a > b ? a : b     (b if either is NaN or both are zero)
 *   v_select_lt(a, b, x, y) = a < b ? x : y                         (y if a or b is NaN)
 *   v_copysign(x, s)                |x| with the sign of s
 *   v_pow2(n)                       2^n for a whole n in the range of normal exponents
 *   v_exponent(x)  v_mantissa(x)    e and m of x = m 2^e, 1 <= m < 2, for a positive normal x
 *
 * MG_MR is the number of rows of the matrix tile of MG_MR x 4 vectors, chosen so that accumulators, vectors
 * of B and broadcasts of A fit the register file. Up to MG_FEW rows a matrix product reads a right factor with
 * contiguous columns in place; beyond, it copies panels of it (measured on Zen 4: a tile that does more with each
 * vector of B waits less for lines that lie a page apart). */
#ifndef MG_SIMD_H
#define MG_SIMD_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../mutant.h"

#define MG_INLINE static inline __attribute__((always_inline, unused))

/* The address p, computed here: otherwise the compiler may keep, and step, dozens of addresses in memory. */
#define MG_HERE(p) __asm__("" : "+r"(p))

/* v_pow2 adds MG_POW2: 1.5 * 2^(mantissa bits) puts n into the low bits of the sum, the bias on top of it
 * makes them the exponent field of 2^n, and a shift left drops the rest. v_exponent goes the way back:
 * the bits of 2^(mantissa bits) joined to a small integer e are the number 2^(mantissa bits) + e. */
#define MG_POW2_f32 (0x1.8p23f + 127.0f)
#define MG_POW2_f64 (0x1.8p52 + 1023.0)
#define MG_EXPONENT_f32 (0x1p23f + 127.0f)
#define MG_EXPONENT_f64 (0x1p52 + 1023.0)

#define MG_STRING_(x) #x
#define MG_STRING(x) MG_STRING_(x)
#include MG_STRING(MG_ISA.h)

#endif
