/* The kernels once more, in the plainest form: the meaning that the fast ones have to meet to the bit. */
#ifndef MG_REF_H
#define MG_REF_H

#include <stdint.h>

/* What the table of cells in minigrad.h says: gates in w and in u, values that are saved, and which arrays there
 * are beside those of every cell. */
struct ref_cell {
    const char *name;
    int gates, recurrent, saved;
    int b_h, second, c, dz_h; /* second: v and b_v. c: c0, c_last, dc_last, dc0 and perhaps p */
};
extern const struct ref_cell ref_cells[6];

void ref_gemm(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k,
              const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
              const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
              const void *start, int64_t start_row, int64_t start_col, void *out, int64_t out_row);
void ref_recurrent_forward(int dtype, int cell, int64_t T, int64_t N, int64_t I, int64_t H,
                           const void *x, const void *w, const void *u, const void *v,
                           const void *b_x, const void *b_h, const void *b_v, const void *p,
                           const void *h0, const void *c0, const int64_t *lengths,
                           void *y, void *h_last, void *c_last, void *saved);
void ref_recurrent_backward(int dtype, int cell, int64_t T, int64_t N, int64_t H,
                            const void *u, const void *v, const void *p,
                            const void *h0, const void *c0, const int64_t *lengths,
                            const void *y, const void *saved,
                            const void *dy, const void *dh_last, const void *dc_last,
                            void *dz, void *dz_h, void *dh0, void *dc0);
void ref_scatter_rows(int dtype, int64_t n, int64_t width, const int64_t *index, const void *g, void *out);

#endif
