"""A recurrent cell of one's own: leaky units (Goodfellow et al., section 10.9.2).

A cell is one time step. What it is made of is up to you: the ops of minigrad, parameters, a state
that is a tensor or a tuple. Here h(t) keeps a share `a` of itself, learned for every unit:

    a = sigmoid(rate);  h(t) = a h(t-1) + (1 - a) tanh(b + W x(t) + U h(t-1))

    python examples/custom_cell.py
"""

import numpy as np

import minigrad as mg


class Leaky(mg.nn.Cell):
    def __init__(self, input_size, hidden_size, rng=0):
        rng = np.random.default_rng(rng)
        self.hidden_size = hidden_size
        self.W = mg.nn.Parameter(rng.normal(size=(hidden_size, input_size)))
        self.U = mg.nn.Parameter(rng.normal(size=(hidden_size, hidden_size)) / hidden_size)
        self.b = mg.nn.Parameter(np.zeros(hidden_size))
        self.rate = mg.nn.Parameter(np.linspace(-2, 4, hidden_size))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def __call__(self, x, h):
        a = mg.sigmoid(self.rate)
        h = a * h + (1 - a) * mg.tanh(mg.affine(h, self.U, mg.affine(x, self.W, self.b)))
        return h, h


def main():
    # Which of two channels carried the only pulse, long ago?
    rng = np.random.default_rng(1)
    steps, rows = 60, 64
    answer = rng.integers(0, 2, rows)
    xs = np.zeros((steps, rows, 2))
    xs[0, np.arange(rows), answer] = 1.0

    layer = mg.nn.Recurrent(Leaky(2, 12))
    head = mg.nn.Linear(12, 2, rng=2)
    optimizer = mg.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    for step in range(1, 61):
        _, last = layer(xs)
        loss = mg.nn.cross_entropy(head(last), answer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    return loss.item()


if __name__ == "__main__":
    main()
