/* The kernels for AVX-512. */
#ifdef __x86_64__
#define MG_ISA avx512
#include "../simd/simd.h"
#include "../kernels/all.inc.h"
#include "../simd/end.h"
#else
typedef int nothing_here; /* C asks for one declaration */
#endif
