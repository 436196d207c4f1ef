/* What one core can do at best: chains of multiply-adds in registers that do not wait for one another.
 *
 * A chain's next operation waits for its last one, some four cycles, and a core begins up to four in a
 * cycle: so sixteen chains keep it busy; there are as many as its registers hold, 12 of 16 or 24 of 32.
 */
#include <stdint.h>

volatile double peak_sink; /* what is read by nobody but the compiler, which must then compute it */

/* n rounds of one multiply-add on each chain; returns the number of operations, two to a multiply-add. */
#define DEFINE_LOOP(name, target, type, bytes, chains)                                        \
    target static double name(int64_t n)                                                      \
    {                                                                                         \
        typedef type vector __attribute__((vector_size(bytes)));                              \
        vector x[chains], a = {0}, b = {0};                                                   \
        a += (type)0.5, b += (type)0.25;                                                      \
        for (int i = 0; i < chains; i++) x[i] = b * (type)i;                                  \
        for (int64_t k = 0; k < n; k++) {                                                     \
            _Pragma("GCC unroll 24") for (int i = 0; i < chains; i++) x[i] = x[i] * a + b;    \
        }                                                                                     \
        for (int i = 1; i < chains; i++) x[0] += x[i];                                        \
        peak_sink = (double)x[0][0];                                                          \
        return 2.0 * chains * (bytes / sizeof(type)) * (double)n;                             \
    }

#define DEFINE_LOOPS(isa, target, bytes, chains)            \
    DEFINE_LOOP(f32_##isa, target, float, bytes, chains)    \
    DEFINE_LOOP(f64_##isa, target, double, bytes, chains)

#ifdef __x86_64__
DEFINE_LOOPS(avx512, __attribute__((target("avx512f,fma"))), 64, 24)
DEFINE_LOOPS(avx2, __attribute__((target("avx2,fma"))), 32, 12)
#endif
#ifdef __aarch64__
DEFINE_LOOPS(generic, , 16, 24)
#else
DEFINE_LOOPS(generic, , 16, 12)
#endif

const char *peak_isa(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "generic";
}

double peak_run(int is_f64, int64_t n)
{
#ifdef __x86_64__
    if (peak_isa()[3] == '5') return is_f64 ? f64_avx512(n) : f32_avx512(n);
    if (peak_isa()[3] == '2') return is_f64 ? f64_avx2(n) : f32_avx2(n);
#endif
    return is_f64 ? f64_generic(n) : f32_generic(n);
}
