/* The kernels for 64-bit Arm. */
#ifdef __aarch64__
#define MG_ISA neon
#include "../simd/simd.h"
#include "../kernels/all.inc.h"
#include "../simd/end.h"
#else
typedef int nothing_here; /* C asks for one declaration */
#endif
