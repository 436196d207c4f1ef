/* Every kernel, for float and then for double, and the two tables. The list stands once: this file includes
 * itself with MG_DOUBLE 0 and 1. */
#ifndef MG_DOUBLE

#include "../minigrad.h"
#include "../pool.h"
#include "../table.h"

#define MG_DOUBLE 0
#include "all.inc.h"
#undef MG_DOUBLE
#define MG_DOUBLE 1
#include "all.inc.h"

#else

#include "../simd/names.inc.h"

#include "activation.inc.h"
#include "transpose.inc.h"
#include "gemm.inc.h"
#include "recurrent.inc.h"
#include "lstm.inc.h"
#include "gru.inc.h"
#include "rnn.inc.h"
#include "layers.inc.h"
#include "rows.inc.h"

#define MG_TABLE MG_NAME(MG_PASTE(mg_table, MG_ISA))
const struct mg_table MG_TABLE = {
#define MG_KERNEL(name, type, arguments) .name = MG_NAME(name),
#include "../kernels.def"
#undef MG_KERNEL
};
#undef MG_TABLE

#endif
