"""A cell of one's own under the checker, and the same cell with a bug that no gradient check sees.

The cell is a unit with one gate u, which both resets the old state and lets the new one in:

    u = sigmoid(Wu x + Uu h + bu);  h' = (1 - u) h + u tanh(Wn x + Un (u h) + bn)

    python examples/check_my_cell.py
"""

import numpy as np

import minigrad as mg
from minigrad.testing import check_cell


class MyCell(mg.nn.Cell):
    def __init__(self, input_size, hidden_size, rng=0):
        rng = np.random.default_rng(rng)
        self.hidden_size = hidden_size
        self.W = mg.nn.Parameter(rng.normal(size=(2 * hidden_size, input_size)))
        self.U = mg.nn.Parameter(rng.normal(size=(2 * hidden_size, hidden_size)) / hidden_size)
        self.b = mg.nn.Parameter(rng.normal(size=2 * hidden_size))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def __call__(self, x, h):
        (Wu, Wn), (Uu, Un), (bu, bn) = (mg.split(p, sections=2) for p in (self.W, self.U, self.b))
        u = mg.sigmoid(mg.affine(h, Uu, mg.affine(x, Wu, bu)))
        h = (1 - u) * h + u * mg.tanh(mg.affine(u * h, Un, mg.affine(x, Wn, bn)))
        return h, h


class Leaking(MyCell):
    """Takes the mean over the batch from its input: a row then knows the rows beside it."""

    def __call__(self, x, h):
        return super().__call__(x - mg.mean(x, axis=0), h)


def main():
    check = check_cell(MyCell, examples=5, seed=0).check  # a test file has just the check_cell
    results = check.run()
    print(f"MyCell: {sum(r.verdict == 'pass' for r in results)} of {len(results)} laws hold")
    for r in results:
        if r.verdict != "pass":
            print(f"  {r.law.id} {r.verdict}: {r.reason}")

    check = check_cell(Leaking, examples=50, seed=0).check
    print("Leaking, P7 (the gradient is that of the function):", check.run_law("P7").verdict)
    result = check.run_law("C6")
    print("Leaking, C6:", result.verdict, end="\n\n")
    print(*check.report(result).text().splitlines()[:24], "...", sep="\n")
    return results, result


if __name__ == "__main__":
    main()
