/* mg_gemm and mg_scatter_rows against the plain chain, to the bit: sizes around every tile and block, all
 * transpositions, walks backwards over blocks, every kind of start and instruction set, several threads. */
#include "check.h"
#include "ref.h"

/* How an operand's elements lie: the steps of k end to end, or the rows (columns of b), or neither. */
enum { ALONG_K, ALONG_OTHER, APART, LAYOUTS };

/* An operand of `blocks` x `k` x `other` elements, at times with holes between, at times with the blocks in
 * reverse. */
struct operand { void *memory; int64_t first, block, k, other, elements; };

static struct operand operand(int dtype, int layout, int64_t blocks, int64_t k, int64_t other)
{
    struct operand o = {0};
    const int64_t hole = below(3) ? 0 : 1 + below(3), step = layout == APART ? 2 + below(2) : 1;
    int64_t inner;
    if (layout == ALONG_K || (layout == APART && below(2)))
        o.k = step, o.other = k * step + hole, inner = other * o.other;
    else o.other = step, o.k = other * step + hole, inner = k * o.k;
    o.block = inner + (below(2) ? 0 : below(3));
    o.elements = blocks > 0 && k > 0 && other > 0
                     ? (blocks - 1) * o.block + (k - 1) * o.k + (other - 1) * o.other + 1 : 0;
    o.memory = numbers(dtype, o.elements);
    if (blocks > 0 && below(2)) o.first = (blocks - 1) * o.block, o.block = -o.block;
    return o;
}

static const void *at(int dtype, const void *p, int64_t i)
{
    return (const char *)p + i * (int64_t)dtype_size(dtype);
}

static void check_layouts(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k, int kind, int a_layout,
                          int b_layout)
{
    struct operand a = operand(dtype, a_layout, blocks, k, m), b = operand(dtype, b_layout, blocks, k, n);
    if (below(8) == 0 && a.elements)
        set(dtype, a.memory, below(a.elements), below(2) ? (double)INFINITY : (double)NAN);
    const int64_t out_row = n + (below(2) ? 0 : below(5)), out_n = m > 0 ? (m - 1) * out_row + n : 0;
    /* start: none, a row, a column, whole, out itself */
    const int64_t rows[5] = {0, 0, 1, n, out_row}, cols[5] = {0, 1, 0, 1, 1};
    void *start = kind == 0 ? NULL : kind == 1 ? numbers(dtype, n) : kind == 2 ? numbers(dtype, m)
                : numbers(dtype, kind == 3 ? m * n : out_n);
    void *want = kind == 4 ? copied(dtype, out_n, start) : poisoned(dtype, out_n);
    const void *pa = at(dtype, a.memory, a.first), *pb = at(dtype, b.memory, b.first);
    void *before = copied(dtype, out_n, want);
    ref_gemm(dtype, m, n, blocks, k, pa, a.other, a.block, a.k, pb, b.block, b.k, b.other,
             kind == 4 ? want : start, rows[kind], cols[kind], want, out_row);
    void *scratch = guarded(mg_gemm_scratch(dtype, m, n, blocks, k));
    FOR_EACH_ISA(name) {
        for (int threads = 1; threads <= 3; threads++) {
            mg_set_threads(threads);
            void *out = copied(dtype, out_n, before);
            mg_gemm(dtype, m, n, blocks, k, pa, a.other, a.block, a.k, pb, b.block, b.k, b.other,
                    kind == 4 ? out : start, rows[kind], cols[kind], out, out_row, scratch);
            const int64_t i = difference(dtype, out_n, out, want);
            CHECK(i < 0, "%s %s threads %d: m %d n %d blocks %d k %d strides a %d %d %d b %d %d %d start %d: "
                  "element %d is %.17g, expected %.17g", name, dtype_names[dtype], threads,
                  (int)m, (int)n, (int)blocks, (int)k, (int)a.other, (int)a.block, (int)a.k,
                  (int)b.block, (int)b.k, (int)b.other, kind, (int)i,
                  get(dtype, out, i), get(dtype, want, i));
        }
    }
    release();
}

static void check_product(int dtype, int64_t m, int64_t n, int64_t blocks, int64_t k, int kind)
{
    check_layouts(dtype, m, n, blocks, k, kind, (int)below(LAYOUTS), (int)below(LAYOUTS));
}

/* A sum of no terms is its start, whatever the strides say: here B seems to lie along k and blocks of one step. */
static void check_empty_sum(int dtype)
{
    const int64_t m = 2, n = 16;
    void *a = numbers(dtype, 1), *b = numbers(dtype, 1), *start = numbers(dtype, n);
    void *zero = copied(dtype, n, start);
    for (int64_t j = 0; j < n; j++) set(dtype, zero, j, 0);
    void *scratch = guarded(mg_gemm_scratch(dtype, m, n, 0, 1));
    FOR_EACH_ISA(name)
        for (int k = 0; k < 2; k++) /* no blocks, or blocks of nothing */
            for (int kind = 0; kind < 2; kind++) {
                void *out = poisoned(dtype, m * n);
                mg_gemm(dtype, m, n, k ? 0 : 1, k, a, 1, 1, 1, b, 1, 1, 3, kind ? start : NULL, 0, 1, out, n,
                        scratch);
                for (int64_t i = 0; i < m; i++)
                    CHECK(difference(dtype, n, at(dtype, out, i * n), kind ? start : zero) < 0,
                          "%s %s: an empty sum is not its start", name, dtype_names[dtype]);
            }
    release();
}

static void check_scatter(int dtype, int64_t n, int64_t width)
{
    const int64_t rows = 4;
    int64_t *index = guarded(n * (int64_t)sizeof *index);
    for (int64_t r = 0; r < n; r++) index[r] = below(rows);
    void *g = numbers(dtype, n * width), *before = numbers(dtype, rows * width);
    void *want = copied(dtype, rows * width, before);
    ref_scatter_rows(dtype, n, width, index, g, want);
    FOR_EACH_ISA(name) {
        void *out = copied(dtype, rows * width, before);
        mg_scatter_rows(dtype, n, width, index, g, out);
        CHECK(difference(dtype, rows * width, out, want) < 0, "scatter_rows %s %s: n %d width %d", name,
              dtype_names[dtype], (int)n, (int)width);
    }
    release();
}

int main(void)
{
    int products = 0;
    for (int dtype = 0; dtype < 2; dtype++) {
        /* Each way of reading and copying, on each instruction set: rows of one tile and a B that lies along k, rows
         * that read B in place and more (MG_FEW is 128 at most); copied rows of A that are more than one group,
         * copied panels of B, the last vector whole or not; sums around a block of 256 steps, of one level and of
         * two. */
        static const int64_t sizes[][4] = {{6, 16, 1, 257}, {13, 17, 1, 40}, {25, 70, 1, 16},  {25, 33, 9, 30},
                                           {129, 33, 1, 5}, {7, 20, 2, 257}, {1, 130, 1, 300}, {12, 48, 1, 33},
                                           {13, 64, 3, 7},  {2, 5, 1, 513},  {128, 48, 2, 3},  {4, 32, 1, 32}};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int layouts = 0; layouts < LAYOUTS * LAYOUTS; layouts++)
                for (int kind = 0; kind < 5; kind++, products++)
                    check_layouts(dtype, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], kind,
                                  layouts % LAYOUTS, layouts / LAYOUTS);
        check_empty_sum(dtype);
        for (int i = 0; i < 600; i++, products++) {
            int64_t m = ONE_OF(0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 18, 19, 31);
            int64_t n = ONE_OF(0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 130);
            int64_t k = ONE_OF(0, 1, 1, 2, 3, 5, 8, 16, 17, 32, 40), blocks = ONE_OF(0, 1, 1, 1, 2, 3, 7);
            check_product(dtype, m, n, blocks, k, (int)below(5));
        }
        for (int i = 0; i < 40; i++, products++) /* around a block of k */
            check_product(dtype, 1 + below(8), 1 + below(70), ONE_OF(1, 1, 2, 5),
                          ONE_OF(127, 128, 255, 256, 257, 300, 512, 513), (int)below(5));
        /* enough work for threads: many rows, many columns, several blocks of columns, both dimensions */
        for (int kind = 0; kind < 5; kind++, products += 2) {
            check_product(dtype, 700, 40, 1, 300, kind);
            check_product(dtype, 40, 700, 10, 30, kind);
        }
        check_product(dtype, 5, 1100, 2, 800, 0);
        check_product(dtype, 170, 190, 300, 1, 1);
        products += 2;
        for (int i = 0; i < 40; i++) check_scatter(dtype, below(20), ONE_OF(0, 1, 3, 4, 8, 15, 16, 17, 40));
    }
    printf("%d products, equal to the bit on %s\n", products, mg_isas());
    return 0;
}
