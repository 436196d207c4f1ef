/* minigrad: the public face of the C kernels.
 *
 * Between the two cffi lines stand plain prototypes and enums, which csrc/ffi_build.py reads as they are.
 *
 * Conventions. Arrays are of the dtype named by the first argument; sizes, strides and lengths are int64_t,
 * strides count elements and may be negative or, for inputs, 0. Every array belongs to the caller. An output
 * may not overlap an input unless its text says so. Nothing here allocates, prints, exits or keeps state
 * between calls: working memory is `scratch`, at any address, as many bytes as the function's own ..._scratch
 * says. Sizes of 0 are legal everywhere. Calls may run at once in several threads.
 *
 * The bits of a result depend on the values of the inputs alone: not on the instruction set, the number of
 * threads, the number of rows beside a row, or the strides.
 */
#ifndef MINIGRAD_H
#define MINIGRAD_H

#include <stdint.h>

/* cffi: begin */
enum { MG_F32 = 0, MG_F64 = 1 };
enum { MG_EXP = 0, MG_LOG = 1, MG_TANH = 2, MG_SIGMOID = 3, MG_SOFTPLUS = 4, MG_ERF = 5 };

/* The instruction set in use, and those that this machine can run: best first, separated by one space. */
const char *mg_isa(void);
const char *mg_isas(void);

/* 0, or -1 when the name is unknown or cannot run here; then nothing changes. */
int mg_set_isa(const char *name);

/* The most threads that one call may use, the caller's own included; n is brought into 1..32.
 * Both return the number now in force. */
int mg_set_threads(int n);
int mg_threads(void);

/* out[i] = op(x[i]) for i < n, op one of MG_EXP ... MG_ERF. out may be x. */
void mg_unary(int dtype, int op, int64_t n, const void *x, void *out);

/* dx[i] = g[i] * op'(x[i]) for i < n, where op' is a function of y = op(x): the gradient rule in one pass.
 *
 *     MG_TANH: g * (1 - y*y)        MG_SIGMOID: (g*y) * (1 - y)
 *
 * Each operation is rounded by itself, as in the rule's text. dx may be g or y. */
void mg_rule(int dtype, int op, int64_t n, const void *g, const void *y, void *dx);

/* The two above as inner loops of NumPy ufuncs: args are the arrays, size[0] the number of elements, strides
 * in bytes, data the op as an integer. Floating-point flags are left clear, so that NumPy never warns. */
void mg_loop_unary_f32(char **args, const intptr_t *size, const intptr_t *strides, void *data);
void mg_loop_unary_f64(char **args, const intptr_t *size, const intptr_t *strides, void *data);
void mg_loop_rule_f32(char **args, const intptr_t *size, const intptr_t *strides, void *data);
void mg_loop_rule_f64(char **args, const intptr_t *size, const intptr_t *strides, void *data);

/* out[i][j] for i < m, j < n is one chain of FMAs:
 *
 *     acc = start ? start[i*start_row + j*start_col] : 0
 *     for q = 0 .. blocks-1: for p = 0 .. k-1:
 *         acc = fma(a[i*a_row + q*a_block + p*a_k], b[q*b_block + p*b_k + j*b_col], acc)
 *     out[i*out_row + j] = acc
 *
 * The sum has two levels so that time can be walked backwards without a copy. start may be out itself. */
int64_t mg_gemm_scratch(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k);
void mg_gemm(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k,
             const void *a, int64_t a_row, int64_t a_block, int64_t a_k,
             const void *b, int64_t b_block, int64_t b_k, int64_t b_col,
             const void *start, int64_t start_row, int64_t start_col,
             void *out, int64_t out_row, void *scratch);

/* The product as the inner loop of a NumPy gufunc: sizes are those of the outer dimensions, m, k, n; data is
 * what is computed, and so the signature.
 *
 *     MG_MATMUL (m,k),(k,n)->(m,n): x y        MG_AFFINE_BIAS (m,k),(n,k),(n)->(m,n): x w^T begun at b
 *     MG_AFFINE_START (m,k),(n,k),(m,n)->(m,n): x w^T begun at s
 *
 * The rows of the result are contiguous. Working memory is on the stack. */
enum { MG_MATMUL = 0, MG_AFFINE_BIAS = 1, MG_AFFINE_START = 2 };
void mg_loop_product_f32(char **args, const intptr_t *sizes, const intptr_t *strides, void *data);
void mg_loop_product_f64(char **args, const intptr_t *sizes, const intptr_t *strides, void *data);

/* The LSTM over a whole sequence, gate order i f g o. Shapes, all contiguous:
 *
 *     x [T][N][I]   w [4H][I]   u [4H][H]   b [4H]   h0 c0 h_last c_last [N][H]   lengths [N] or NULL
 *     y [T][N][H]   gates [T][N][4H]   cells [T][N][H]
 *
 * A row is active at step t while t < lengths[row]; NULL means always. For an active row
 *
 *     z = chain of FMAs: start b, then x w^T, then (same accumulator) h u^T
 *     i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
 *     c = f*c + i*g  (two products and a sum)      h = o*tanh(c)      y[t] = h
 *
 * and gates[t], cells[t] keep i f g o and c for the backward pass. Where a row is not active y, gates and
 * cells are 0, whatever x holds. h_last, c_last: the state at the row's own end. gates and cells may both be
 * NULL (inference). h_last may be h0 and c_last may be c0. mg_lstm_scratch serves both passes. */
int64_t mg_lstm_scratch(int dtype, int64_t T, int64_t N, int64_t I, int64_t H);
void mg_lstm_forward(int dtype, int64_t T, int64_t N, int64_t I, int64_t H,
                     const void *x, const void *w, const void *u, const void *b,
                     const void *h0, const void *c0, const int64_t *lengths,
                     void *y, void *h_last, void *c_last, void *gates, void *cells, void *scratch);

/* Back-propagation through time: from the cotangents dy [T][N][H], dh_last, dc_last [N][H] (each may be NULL:
 * zeros) to dz [T][N][4H], that of z above, and dh0, dc0 [N][H]. With dh, dc starting as dh_last, dc_last,
 * for t descending:
 *
 *     dh_t = dy[t] + dh        tc = tanh(c_t)        do = dh_t*tc        dc_t = dc + (dh_t*o)*(1 - tc*tc)
 *     df = dc_t*c_prev         di = dc_t*g           dg = dc_t*i         dc = dc_t*f
 *     dz_i = (di*i)*(1-i)      dz_f = (df*f)*(1-f)   dz_g = dg*(1 - g*g) dz_o = (do*o)*(1-o)
 *     dh = chain of FMAs from 0 over dz u, the 4H gates in the order in which they are stored
 *
 * A row that is not active has dz = 0 and leaves dh, dc alone, whatever dy holds there. The gradients of x,
 * w, u and b are products with dz: see mg_gemm. dh0 may be dh_last, dc0 may be dc_last. */
void mg_lstm_backward(int dtype, int64_t T, int64_t N, int64_t H,
                      const void *u, const void *c0, const int64_t *lengths,
                      const void *gates, const void *cells,
                      const void *dy, const void *dh_last, const void *dc_last,
                      void *dz, void *dh0, void *dc0, void *scratch);

/* out[index[r]] += g[r] for r = 0 .. n-1 in this order; rows of `width` elements; an index is not checked. */
void mg_scatter_rows(int dtype, int64_t n, int64_t width, const int64_t *index, const void *g, void *out);
/* cffi: end */

#endif
