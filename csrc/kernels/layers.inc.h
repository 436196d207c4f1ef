/* The public functions of recurrent layers: which cell, which weights, and where in scratch they go. */

static const struct MG_NAME(cell) *const MG_NAME(cells)[] = {
    [MG_LSTM] = &MG_NAME(lstm),       [MG_LSTM_SIGMOID] = &MG_NAME(lstm_sigmoid), [MG_GRU] = &MG_NAME(gru),
    [MG_GRU_BEFORE] = &MG_NAME(gru_before), [MG_RNN_TANH] = &MG_NAME(rnn_tanh), [MG_RNN_RELU] = &MG_NAME(rnn_relu),
};

static int64_t MG_NAME(recurrent_scratch)(int cell, int64_t T, int64_t N, int64_t I, int64_t H)
{
    const struct MG_NAME(cell) *c = MG_NAME(cells)[cell];
    const int64_t units = pieces(H, LANES) * LANES;
    const int64_t panels = units * (c->gates * (I + 1) + (c->recurrent + c->second) * (H + 1));
    const int64_t rows = units * c->gates * chunk_steps(T, N, H) * N + (c->second ? N * H : 0);
    return (panels + rows) * (int64_t)sizeof(REAL) + 64;
}

static void MG_NAME(recurrent_forward)(int cell, int64_t T, int64_t N, int64_t I, int64_t H,
                                       const void *x, const void *w, const void *u, const void *v,
                                       const void *b_x, const void *b_h, const void *b_v, const void *p,
                                       const void *h0, const void *c0, const int64_t *lengths,
                                       void *y, void *h_last, void *c_last, void *saved, void *scratch)
{
    const struct MG_NAME(cell) *c = MG_NAME(cells)[cell];
    REAL *rest = MG_NAME(aligned)(scratch);
    struct MG_NAME(layer) s = {
        .cell = c, .T = T, .N = N, .I = I, .H = H, .lengths = lengths, .x = x, .p = p, .h0 = h0, .c0 = c0,
        .y = y, .saved = saved, .h = h_last, .c = c_last, .steps = chunk_steps(T, N, H),
        .run = MG_NAME(forward_share),
    };
    s.w = MG_NAME(weights_at)(&rest, H, c->gates, I, w, H * I, I, 1, b_x);
    s.u = MG_NAME(weights_at)(&rest, H, c->recurrent, H, u, H * H, H, 1, c->joined ? NULL : b_h);
    if (c->second) s.v = MG_NAME(weights_at)(&rest, H, 1, H, v, 0, H, 1, MG_BUG(219) ? NULL : b_v);
    s.sums = rest;
    s.between = rest + pieces(H, LANES) * LANES * c->gates * s.steps * N;
    MG_NAME(run_layer)(&s, N * H * (c->gates * I + (c->recurrent + c->second) * H));
}

static void MG_NAME(recurrent_backward)(int cell, int64_t T, int64_t N, int64_t H,
                                        const void *u, const void *v, const void *p,
                                        const void *h0, const void *c0, const int64_t *lengths,
                                        const void *y, const void *saved,
                                        const void *dy, const void *dh_last, const void *dc_last,
                                        void *dz, void *dz_h, void *dh0, void *dc0, void *scratch)
{
    const struct MG_NAME(cell) *c = MG_NAME(cells)[cell];
    REAL *rest = MG_NAME(aligned)(scratch);
    /* The driver reads y and saved here; the forward pass writes them through the same members. */
    struct MG_NAME(layer) s = {
        .cell = c, .T = T, .N = N, .H = H, .lengths = lengths, .p = p, .h0 = h0, .c0 = c0,
        .y = (REAL *)y, .saved = (REAL *)saved, .dy = dy, .dh_last = dh_last, .dc_last = dc_last,
        .dz = dz, .dz_h = c->apart ? dz_h : NULL, .dh = dh0, .dc = dc0, .run = MG_NAME(backward_share),
    };
    s.u = MG_NAME(weights_at)(&rest, H, 1, c->recurrent * H, u, 0, 1, H, NULL);
    if (c->second) s.v = MG_NAME(weights_at)(&rest, H, 1, H, v, 0, 1, H, NULL);
    MG_NAME(run_layer)(&s, N * H * (c->recurrent + c->second) * H);
}
