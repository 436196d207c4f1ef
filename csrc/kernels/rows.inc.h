/* Rows chosen by an index: the gradient of an embedding. */

static void MG_NAME(scatter_rows)(int64_t n, int64_t width, const int64_t *index, const void *g_, void *out_)
{
    const REAL *g = g_;
    for (int64_t r = 0; r < n; r++, g += width) {
        REAL *out = (REAL *)out_ + index[r] * width;
        int64_t j = 0;
        for (; j + LANES <= width; j += LANES) v_store(out + j, v_add(v_load(out + j), v_load(g + j)));
        int rest = (int)(width - j) - (MG_BUG(211) && j < width);
        v_store_n(out + j, v_add(v_load_n(out + j, rest), v_load_n(g + j, rest)), rest);
    }
}
