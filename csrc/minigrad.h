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

/* A recurrent layer over a whole sequence. The cell decides how many gates there are, whose weights lie one below
 * another in w and u; which other arrays there are (NULL in place of the rest); and which S values of each unit
 * are saved for the backward pass.
 *
 *                        gates     u         b_h   v, b_v   p               c     saved
 *     MG_LSTM            i f g o   i f g o                  i f o or NULL   yes   i f g o c'
 *     MG_LSTM_SIGMOID    the same, where g is a sigmoid
 *     MG_GRU             r z n     r z n     yes                                  r z n e_n
 *     MG_GRU_BEFORE      r z n     r z       yes   n                              r z n
 *     MG_RNN_TANH        one       one       yes
 *     MG_RNN_RELU        one       one       yes
 *
 * Shapes, all contiguous, G gates in w and G_u in u:
 *
 *     x [T][N][I]   w [G*H][I]   u [G_u*H][H]   v [H][H]   b_x [G*H]   b_h [G_u*H]   b_v [H]   p [3][H]
 *     h0 c0 h_last c_last [N][H]   lengths [N] or NULL   y [T][N][H]   saved [T][N][S][H]
 *
 * A bias may be NULL: zeros. A row is active at step t while t < lengths[row]; NULL means always. For an active
 * row, with chain(s, a, m) one chain of FMAs that begins at s and goes over the products of a and the columns of m
 * in order, and each other operation rounded by itself, in this order:
 *
 *   LSTM        z = chain(chain(b_x, x, w), h, u)      without peepholes the terms with p are not there
 *               i = sigmoid(z_i + c*p_i)   f = sigmoid(z_f + c*p_f)   g = tanh(z_g), or sigmoid(z_g)
 *               c' = f*c + i*g             o = sigmoid(z_o + c'*p_o)  h' = o*tanh(c')
 *   GRU         a = chain(b_x, x, w)   e = chain(b_h, h, u)
 *               r = sigmoid(a_r + e_r)   z = sigmoid(a_z + e_z)   n = tanh(a_n + r*e_n)   h' = (1-z)*n + z*h
 *   GRU_BEFORE  the same with n = tanh(a_n + chain(b_v, r*h, v))
 *   RNN         h' = tanh(e + a), or relu
 *
 * and y[t] = h'. Where a row is not active y is 0, whatever x holds. h_last, c_last: the state at the row's own
 * end. saved may be NULL (inference). h_last may be h0 and c_last may be c0. mg_recurrent_scratch serves both
 * passes (I of 0 for the backward one). */
enum { MG_LSTM = 0, MG_LSTM_SIGMOID = 1, MG_GRU = 2, MG_GRU_BEFORE = 3, MG_RNN_TANH = 4, MG_RNN_RELU = 5 };
int64_t mg_recurrent_scratch(int dtype, int cell, int64_t T, int64_t N, int64_t I, int64_t H);
void mg_recurrent_forward(int dtype, int cell, int64_t T, int64_t N, int64_t I, int64_t H,
                          const void *x, const void *w, const void *u, const void *v,
                          const void *b_x, const void *b_h, const void *b_v, const void *p,
                          const void *h0, const void *c0, const int64_t *lengths,
                          void *y, void *h_last, void *c_last, void *saved, void *scratch);

/* Back-propagation through time: from the cotangents dy [T][N][H], dh_last, dc_last [N][H] (each may be NULL:
 * zeros) to dz [T][N][G*H], that of the sums with x (z or a above), dz_h [T][N][3H], that of e (MG_GRU only: in
 * MG_GRU_BEFORE it is the first two gates of dz, and else dz itself), and dh0, dc0 [N][H]. With dh, dc starting as
 * dh_last, dc_last, for t descending, rule(g, y) being that of mg_rule, or for the relu 0 where y <= 0
 * and g elsewhere, NaN included:
 *
 *   LSTM        dh' = dy[t] + dh        tc = tanh(c')         dc' = (dc + (dh'*o)*(1 - tc*tc)) + dz_o*p_o
 *               dz_o = rule(dh'*tc, o)  dz_i = rule(dc'*g, i) dz_f = rule(dc'*c, f)   dz_g = rule(dc'*i, g)
 *               dc = (dc'*f + dz_f*p_f) + dz_i*p_i            dh = chain(0, dz, u)
 *   GRU         dh' = dy[t] + dh        dz_z = rule(dh'*h - dh'*n, z)     dz_n = rule(dh'*(1-z), n)
 *               dz_r = rule(dz_n*e_n, r)    de = dz_r dz_z dz_n*r         dh = dh'*z + chain(0, de, u)
 *   GRU_BEFORE  dh', dz_z, dz_n the same    d = chain(0, dz_n, v)         dz_r = rule(d*h, r)
 *               dh = (dh'*z + d*r) + chain(0, dz_r dz_z, u)
 *   RNN         dh' = dy[t] + dh        dz = rule(dh', h')                dh = chain(0, dz, u)
 *
 * A row that is not active has dz = 0 and leaves dh, dc alone, whatever dy holds there. The gradients of x, the
 * weights and the biases are products with dz and dz_h: see mg_gemm. y and saved are those of the forward pass and
 * stay as they are. dh0 may be dh_last, dc0 may be dc_last. */
void mg_recurrent_backward(int dtype, int cell, int64_t T, int64_t N, int64_t H,
                           const void *u, const void *v, const void *p,
                           const void *h0, const void *c0, const int64_t *lengths,
                           const void *y, const void *saved,
                           const void *dy, const void *dh_last, const void *dc_last,
                           void *dz, void *dz_h, void *dh0, void *dc0, void *scratch);

/* out[index[r]] += g[r] for r = 0 .. n-1 in this order; rows of `width` elements; an index is not checked. */
void mg_scatter_rows(int dtype, int64_t n, int64_t width, const int64_t *index, const void *g, void *out);
/* cffi: end */

#endif
