/* The kernels in plain C: the meaning of all the others, and the build that runs on any machine. */
#define MG_ISA generic
#include "../simd/simd.h"
#include "../kernels/all.inc.h"
#include "../simd/end.h"
