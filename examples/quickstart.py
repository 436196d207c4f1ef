"""The first screen of the README: one cell, unfolded and fused, any order of derivative.

python examples/quickstart.py
"""

import numpy as np

import minigrad as mg

cell = mg.nn.LSTMCell(input_size=3, hidden_size=4, rng=0)
xs = np.random.default_rng(0).normal(size=(5, 2, 3))  # 5 steps, 2 rows, 3 features

ys, (h, c) = mg.unfold(cell, xs, fused=False)  # node by node
zs, _ = mg.unfold(cell, xs, fused=True)  # one node, one call into C
print("same bits:", np.array_equal(ys.data, zs.data))

(ys * ys).sum().backward()
node_by_node = cell.weight_hh.grad.data
cell.zero_grad()
(zs * zs).sum().backward()
print("same gradient bits:", np.array_equal(cell.weight_hh.grad.data, node_by_node))

energy = lambda xs: (mg.unfold(cell, xs)[0] ** 2).sum()  # noqa: E731
curvature = mg.grad(lambda xs: (mg.grad(energy)(xs) ** 2).sum())(xs)
print("second derivatives:", curvature.shape, round(float(curvature[0, 0, 0]), 6))
