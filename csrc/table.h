/* One table of kernels per instruction set and dtype: isa/isa_<name>.c defines two, dispatch.c chooses. */
#ifndef MG_TABLE_H
#define MG_TABLE_H

#include <stdint.h>

struct mg_table {
#define MG_KERNEL(name, type, arguments) type (*name) arguments;
#include "kernels.def"
#undef MG_KERNEL
};

extern const struct mg_table mg_table_generic_f32, mg_table_generic_f64;
#ifdef __x86_64__
extern const struct mg_table mg_table_avx2_f32, mg_table_avx2_f64;
extern const struct mg_table mg_table_avx512_f32, mg_table_avx512_f64;
#endif
#ifdef __aarch64__
extern const struct mg_table mg_table_neon_f32, mg_table_neon_f64;
#endif

#endif
