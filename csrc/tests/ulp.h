/* Distance from a result to the true value in units in the last place of the true value.
 *
 * A unit is the gap between neighbours in the binade of the true value, and never less than the smallest
 * denormal. Beyond the largest number infinity stands where the next number would: 2^128 or 2^1024. */
#ifndef MG_ULP_H
#define MG_ULP_H

#include <math.h>

static inline double ulp_error(long double got, long double want, int mantissa_bits, int lowest, int highest)
{
    if (isnan(got) || isnan(want))
        return isnan(got) && isnan(want) ? 0.0 : INFINITY;
    long double top = ldexpl(1.0L, highest);
    got = isinf(got) ? copysignl(top, got) : got;
    want = fabsl(want) > top ? copysignl(top, want) : want;
    int exponent = want == 0 ? lowest : ilogbl(want);
    exponent = exponent < lowest ? lowest : exponent > highest - 1 ? highest - 1 : exponent;
    return (double)fabsl(ldexpl(got - want, mantissa_bits - 1 - exponent));
}

static inline double ulp_error_f32(float got, double want)
{
    return ulp_error(got, want, 24, -126, 128);
}

static inline double ulp_error_f64(double got, long double want)
{
    return ulp_error(got, want, 53, -1022, 1024);
}

#endif
