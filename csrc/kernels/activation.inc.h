/* exp, log, tanh, sigmoid, softplus, erf on a vector, and the elementwise kernel `unary`, for the dtype in force.
 *
 * Only IEEE operations in a fixed order: a result depends on its argument alone, not on the instruction set,
 * the lane or the length of the array. Every function takes the whole line: NaN gives NaN, infinities and
 * saturation are exact, denormal arguments and results are as good as any other.
 *
 * All stand on two cores: e^r - 1 on half an octave around 0, and log(1 + f) for f from -1/4 to 1/2; erf has
 * polynomials of its own besides. The error above a function is the largest seen, in units in the last place of
 * the true value: for float over all 2^32 arguments (`test_activation full`), for double in a search of the worst
 * intervals, 5 to 20 million arguments each (`test_activation many` comes within 0.06 of it). */

/* The numbers in hexadecimal are printed by tools/coefficients.py. */
static const struct {
    REAL log2_e, ln2_high, ln2_low;
    REAL whole;                     /* adding and subtracting it rounds to a whole number */
    REAL exp_low, exp_high;         /* e^x is 0 below, infinite above */
    REAL saturated;                 /* sigmoid(x) and tanh(x / 2) round to 1 from here on */
    REAL lift, unlift, lift_log2;   /* a power of two, its inverse, its exponent; lift e^exp_low is normal */
    REAL normal;                    /* the smallest normal number */
    REAL erf_one;                   /* erf x rounds to 1 from here on */
    REAL expm1_q[MG_DOUBLE ? 11 : 6], log1p_q[MG_DOUBLE ? 8 : 4];   /* highest power first */
    REAL erf_q[MG_DOUBLE ? 13 : 7], erf_h[MG_DOUBLE ? 20 : 9];
} MG_NAME(constant) = {
#if MG_DOUBLE
    0x1.71547652b82fep+0, 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56,
    0x1.8p52, -746.0, 710.0, 40.0, 0x1p512, 0x1p-512, 512.0, DBL_MIN, 6.0,
    {0x1.1f730349868cfp-29, 0x1.af4de97ca4194p-26, 0x1.27e4db646b17ep-22, 0x1.71de0231960ebp-19,
     0x1.a01a01a6d889cp-16, 0x1.a01a01abe7fe1p-13, 0x1.6c16c16c162d4p-10, 0x1.11111111100dcp-7,
     0x1.5555555555556p-5, 0x1.5555555555557p-3, 0x1p-1},
    {0x1.169c38cc826bep-3, 0x1.0e8c55b42945fp-3, 0x1.3b29d0452d426p-3, 0x1.745cac43cc003p-3,
     0x1.c71c72df580fcp-3, 0x1.24924923de6edp-2, 0x1.9999999999f17p-2, 0x1.5555555555555p-1},
    {0x1.05ffd737fb32ep-34, -0x1.389d4f2641625p-30, 0x1.f7b4bf3b13964p-27, -0x1.5f1ecb6f0764cp-23,
     0x1.b9df224ca4b97p-20, -0x1.f4d1e3183f7aep-17, 0x1.f9a321d5b8e1ep-14, -0x1.c02db3dac435fp-11,
     0x1.565bcd0dbaa38p-8, -0x1.b82ce31284ep-6, 0x1.ce2f21a042b3p-4, -0x1.812746b0379e6p-2,
     0x1.06eba8214db69p-3},
    {0x1.0a59ecf05f68dp-42, -0x1.53b9f1de06ad4p-44, -0x1.88221db5eba35p-45, 0x1.4a4121fb11d2cp-41,
     -0x1.95bec9bec5f04p-36, 0x1.6844aaf39a303p-33, -0x1.ce3d5c31f80d9p-31, 0x1.e29f50967034bp-29,
     -0x1.77aa8c02bc52bp-27, 0x1.b13adbd5a5906p-27, 0x1.4ef166d474b3cp-23, -0x1.dadb815f104e2p-20,
     0x1.ac03d26124b35p-17, -0x1.431732843904ep-14, 0x1.b961395e738a7p-12, -0x1.1bd558ec43e0fp-9,
     0x1.63cc1da79fe7dp-7, -0x1.cb9f5e73a9ce1p-5, 0x1.6925248da93c7p-2, 0x1.8e8b721a46e45p+0},
#else
    0x1.715476p+0f, 0x1.62e43p-1f, -0x1.05c61p-29f,
    0x1.8p23f, -104.0f, 89.0f, 20.0f, 0x1p64f, 0x1p-64f, 64.0f, FLT_MIN, 4.0f,
    {0x1.a124f2p-13f, 0x1.6d4324p-10f, 0x1.1110ep-7f, 0x1.5554eap-5f, 0x1.555556p-3f, 0x1p-1f},
    {0x1.e6587ap-3f, 0x1.242cep-2f, 0x1.999a6ap-2f, 0x1.555556p-1f},
    {0x1.4a569p-14f, -0x1.a45088p-11f, 0x1.54127p-8f, -0x1.b7fabap-6f, 0x1.ce2d1p-4f, -0x1.81273ep-2f,
     0x1.06eba8p-3f},
    {-0x1.96861ap-20f, 0x1.d541ap-17f, -0x1.3f30bep-14f, 0x1.b90df6p-12f, -0x1.1be41ap-9f, 0x1.63cc26p-7f,
     -0x1.cb9f42p-5f, 0x1.692524p-2f, 0x1.8e8b72p+0f},
#endif
};
#define K(name) v_set1(MG_NAME(constant).name)

MG_INLINE VEC MG_NAME(polynomial)(VEC x, const REAL *highest_first, int terms)
{
    VEC sum = v_set1(highest_first[0]);
    for (int i = 1; i < terms; i++)
        sum = v_fma(sum, x, v_set1(highest_first[i]));
    return sum;
}

/* x = n ln 2 + r with whole n and |r| <= ln 2 / 2; returns e^r - 1, so that e^x = 2^n (1 + result). */
MG_INLINE VEC MG_NAME(expm1_reduced)(VEC x, VEC *n)
{
    *n = v_sub(v_fma(x, K(log2_e), K(whole)), K(whole));
    VEC r = v_fnma(*n, K(ln2_low), v_fnma(*n, K(ln2_high), x));     /* the inner difference is exact */
    VEC q = MG_NAME(polynomial)(r, MG_NAME(constant).expm1_q, MG_DOUBLE ? 11 : 6);
    return v_fma(v_mul(r, r), q, r);
}

/* log(2^k (1 + f)) for -1/4 <= f < 1/2. With s = f / (2 + f), log(1 + f) = 2 atanh s
 * = f - s (f - s^2 q(s^2)) = f - (f^2/2 - s (f^2/2 + s^2 q)): the leading term f is exact. */
MG_INLINE VEC MG_NAME(log1p_reduced)(VEC f, VEC k)
{
    VEC s = v_div(f, v_add(v_set1(2), f)), z = v_mul(s, s);
    VEC zq = v_mul(z, MG_NAME(polynomial)(z, MG_NAME(constant).log1p_q, MG_DOUBLE ? 8 : 4));
    VEC half_square = v_mul(v_set1((REAL)0.5), v_mul(f, f));
    VEC tail = v_fnma(k, K(ln2_low), v_fnma(s, v_add(half_square, zq), half_square));
    return v_fma(k, K(ln2_high), v_sub(f, tail));
}

/* e^x. 2^n may leave the range of numbers on either side, two factors of half the exponent do not; the last
 * product rounds to a denormal or to infinity. Error 0.99 ulp in float, 0.98 in double. */
MG_INLINE VEC v_exp(VEC x)
{
    VEC n, p = MG_NAME(expm1_reduced)(v_min(K(exp_high), v_max(K(exp_low), x)), &n);
    if (MG_BUG(111)) p = v_select_lt(v_set1(8), x, v_add(p, v_set1((REAL)1e-4)), p);
    VEC half = v_sub(v_fma(n, v_set1((REAL)0.5), K(whole)), K(whole));
    VEC scale = v_pow2(half);
    return v_mul(v_fma(scale, p, scale), v_pow2(v_sub(n, half)));
}

/* log x = log(2^k m) with 3/4 <= m < 3/2, so that near x = 1 nothing cancels. Error 0.91 and 0.97 ulp. */
MG_INLINE VEC v_log(VEC x)
{
    VEC zero = v_zero(), one = v_set1(1), infinity = v_set1((REAL)INFINITY);
    VEC normal = v_select_lt(x, K(normal), v_mul(x, K(lift)), x);
    VEC k = v_sub(v_exponent(normal), v_select_lt(x, K(normal), K(lift_log2), zero));
    VEC m = v_mantissa(normal), limit = v_set1((REAL)1.5);
    k = v_select_lt(m, limit, k, v_add(k, one));
    m = v_select_lt(m, limit, m, v_mul(m, v_set1((REAL)0.5)));
    VEC y = MG_NAME(log1p_reduced)(v_sub(m, one), k);
    VEC not_positive = v_select_lt(x, zero, v_set1((REAL)NAN), v_sub(x, infinity));   /* 0: -inf, NaN: NaN */
    return v_select_lt(zero, x, v_select_lt(x, infinity, y, x), not_positive);
}

/* tanh x = sign(x) (2 / d - 1) with d = 1 + e^-2|x| = 1 + 2^n (1 + p). What rounding added to d is known to
 * the last bit, and how far q = fl(1 / d) is off too: with u = 1 - (d - excess) q, the quotient meant is
 * q / (1 - u), here q (1 + u + u^2). For the smallest x all cancels but the excess, which is 2|x| itself.
 * Error 1.33 and 1.37 ulp. */
MG_INLINE VEC v_tanh(VEC x)
{
    VEC one = v_set1(1);
    VEC low = v_neg(MG_BUG(208) ? v_set1(8) : K(saturated));
    VEC n, p = MG_NAME(expm1_reduced)(v_max(low, v_mul(v_set1(-2), v_abs(x))), &n);
    VEC scale = v_pow2(n);
    VEC d = v_fma(scale, p, v_add(scale, one)), q = v_div(one, d);
    VEC excess = v_fnma(scale, p, v_sub(v_sub(d, one), scale));
    VEC u = v_fma(excess, q, v_fnma(d, q, one));
    VEC twice = v_add(q, q);
    return v_copysign(v_fma(twice, v_fma(u, u, u), v_sub(twice, one)), x);
}

/* sigmoid x = 1 / (1 + e^-x), as unlift / (unlift + unlift e^-x): lowered, e^-x stays finite until the
 * quotient is 0, and a denormal quotient is rounded once, by the division. What the sum of the two powers
 * of two loses where one dwarfs the other goes into the smaller term. Error 1.69 and 1.73 ulp. */
MG_INLINE VEC v_sigmoid(VEC x)
{
    if (MG_BUG(209)) x = v_max(x, K(exp_low));
    VEC n, p = MG_NAME(expm1_reduced)(v_neg(v_max(K(exp_low), v_min(K(saturated), x))), &n);
    VEC scale = v_pow2(v_sub(n, K(lift_log2)));
    VEC sum = v_add(scale, K(unlift)), lost = v_sub(K(unlift), v_sub(sum, scale));
    return v_div(K(unlift), v_add(sum, v_fma(scale, p, lost)));
}

/* softplus x = log(1 + e^x) = max(x, 0) + log(1 + e), e = e^-|x| <= 1. From e = 1/2 on, log(1 + e) is log(2
 * (1 + f)) with f = (e - 1) / 2, which 2^n and p give with one rounding. Both are formed lifted, where 2^n
 * is normal; bringing e down rounds it when it is denormal. Error 1.64 and 1.69 ulp. */
MG_INLINE VEC v_softplus(VEC x)
{
    VEC zero = v_zero(), half = v_set1((REAL)0.5);
    VEC n, p = MG_NAME(expm1_reduced)(v_max(K(exp_low), v_neg(v_abs(x))), &n);
    VEC scale = v_pow2(v_add(n, K(lift_log2)));
    VEC e = v_mul(v_fma(scale, p, scale), K(unlift));
    VEC f = v_mul(v_fma(scale, p, v_sub(scale, K(lift))), v_mul(half, K(unlift)));
    VEC log1p_e = MG_NAME(log1p_reduced)(v_select_lt(e, half, e, f), v_select_lt(e, half, zero, v_set1(1)));
    return v_add(v_max(zero, x), log1p_e);
}

/* erf x = x + x q(x^2) for |x| < 1, and beyond sign(x) (1 - e^-(x^2 + h)), where h, a polynomial in |x| - 5/2,
 * is nearly a straight line. What is taken from 1 is at most 0.16, so that its own error counts for as little;
 * it vanishes before |x| reaches erf_one. Error 1.05 and 1.14 ulp. */
MG_INLINE VEC v_erf(VEC x)
{
    VEC one = v_set1(1), a = v_min(K(erf_one), v_abs(x));
    VEC q = MG_NAME(polynomial)(v_mul(a, a), MG_NAME(constant).erf_q, MG_DOUBLE ? 13 : 7);
    VEC t = v_sub(a, v_set1((REAL)2.5));
    VEC h = MG_NAME(polynomial)(t, MG_NAME(constant).erf_h, MG_DOUBLE ? 20 : 9);
    VEC n, p = MG_NAME(expm1_reduced)(v_neg(v_fma(a, a, h)), &n);
    VEC scale = v_pow2(n);
    VEC beyond = v_sub(one, v_fma(scale, p, scale));
    return v_copysign(v_select_lt(a, one, v_fma(a, q, a), beyond), x);
}
#undef K

MG_INLINE void MG_NAME(map)(VEC (*f)(VEC), int64_t n, const REAL *x, REAL *out)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(out + i, f(v_load(x + i - (MG_BUG(109) ? (uintptr_t)(x + i) % 16 / sizeof(REAL) : 0))));
    if (i < n)
        v_store_n(out + i, f(MG_BUG(103) ? v_load(x + i) : v_load_n(x + i, (int)(n - i) - MG_BUG(201))),
                  (int)(n - i));
}

/* out[i] = op(x[i]); out may be x. Each case is a loop of its own, into which the function is inlined. */
static void MG_NAME(unary)(int op, int64_t n, const void *x, void *out)
{
    switch (op) {
    case MG_EXP: MG_NAME(map)(v_exp, n, x, out); break;
    case MG_LOG: MG_NAME(map)(v_log, n, x, out); break;
    case MG_TANH: MG_NAME(map)(v_tanh, n, x, out); break;
    case MG_SIGMOID: MG_NAME(map)(v_sigmoid, n, x, out); break;
    case MG_SOFTPLUS: MG_NAME(map)(v_softplus, n, x, out); break;
    case MG_ERF: MG_NAME(map)(v_erf, n, x, out); break;
    }
}

/* The gradient rules of two functions, in terms of the result y. */
MG_INLINE VEC MG_NAME(tanh_rule)(VEC g, VEC y) { return v_mul(g, v_sub(v_set1(1), v_mul(y, y))); }
MG_INLINE VEC MG_NAME(sigmoid_rule)(VEC g, VEC y) { return v_mul(v_mul(g, y), v_sub(v_set1(1), y)); }

MG_INLINE void MG_NAME(map2)(VEC (*f)(VEC, VEC), int64_t n, const REAL *g, const REAL *y, REAL *dx)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(dx + i, f(v_load(g + i), v_load(y + i)));
    int rest = (int)(n - i);
    if (rest > 0)
        v_store_n(dx + i, f(v_load_n(g + i, rest), v_load_n(y + i, rest)), rest);
}

static void MG_NAME(rule)(int op, int64_t n, const void *g, const void *y, void *dx)
{
    switch (op) {
    case MG_TANH: MG_NAME(map2)(MG_NAME(tanh_rule), n, g, y, dx); break;
    case MG_SIGMOID: MG_NAME(map2)(MG_NAME(sigmoid_rule), n, g, y, dx); break;
    }
}
