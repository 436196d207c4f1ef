"""The engine from one number to a third derivative: run it, change it, run it again.

python examples/tour.py
"""

import numpy as np

import minigrad as mg


def show(title: str, *values) -> None:
    print(f"\n{title}")
    for value in values:
        print("  " + str(value).replace("\n", "\n  "))


# A tensor is an array that remembers how it was computed.
a, b = mg.tensor(3.0, requires_grad=True), mg.tensor(2.0, requires_grad=True)
y = a * b + mg.tanh(a)
show("one number", repr(y), y.graph(names={"a": a, "b": b}))

# backward() walks that record from the newest call to the oldest.
y.backward()
show("dy/da = b + 1 - tanh(a)^2, dy/db = a", a.grad, b.grad)

# Gradients add up over passes, as in PyTorch, until they are forgotten; None is not zero.
(a * b).backward()
show("after a second pass", a.grad)
a.grad = None
show("forgotten", a.grad)

# NumPy's functions work on tensors, with broadcasting; what would lose a gradient raises.
W = mg.tensor(np.array([[1.0, -2.0], [0.5, 1.0]]), requires_grad=True)
x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
loss = np.mean(np.maximum(x @ W.T, 0) ** 2)
loss.backward()
show("a layer", f"loss {loss:.4f}", W.grad)
try:
    np.asarray(loss)
except mg.GradientError as error:
    show("three lines say what went wrong", error)

# The same as functions: arrays in, arrays out. They nest.
f = lambda x: mg.sin(x) * x**2  # noqa: E731
first = mg.grad(f)
second = mg.grad(first)
third = mg.grad(second)
show("f', f'', f''' at 1.5", *(g(1.5) for g in (first, second, third)))
exact = 6 * np.cos(1.5) - 6 * 1.5 * np.sin(1.5) - 1.5**2 * np.cos(1.5)
show("f''' by hand", exact)

# Arguments may be nested; a gradient has the form of its argument.
model = {"w": np.array([0.5, -0.5]), "b": 0.1}
score = lambda p, x: mg.sigmoid((p["w"] * x).sum() + p["b"])  # noqa: E731
show("the gradient of a dict", mg.grad(score)(model, np.array([1.0, 2.0])))

# Products with a Jacobian and with a Hessian, neither of which is ever made.
g = lambda x: mg.exp(-(x * x).sum())  # noqa: E731
v = np.array([1.0, 0.0])
show("df/dx v", mg.jvp(g, (np.ones(2),), (v,))[1])
show("(d2f/dx2) v", mg.hvp(g, (np.ones(2),), (v,))[0])
show("the whole Hessian", mg.hessian(g)(np.ones(2)))

# An op of one's own: a function, and a rule for each argument. Every order follows from the rule.
cube = mg.Op("cube", lambda x: x**3, vjps=[lambda g, out, x: 3 * g * x * x])
show("third derivative of an op of one's own", mg.grad(mg.grad(mg.grad(cube)))(2.0))

# Where did the NaN come from? debug() names the op and the line.
try:
    with mg.debug():
        mg.log(mg.tensor([1.0, -1.0], requires_grad=True))
except mg.AnomalyError as error:
    show("who made the NaN", error)

# A recurrence, unfolded: its graph, folded over time, and what each step adds to the gradient.
cell = mg.nn.RNNCell(1, 2, rng=0)
with mg.debug():
    ys, h = mg.unfold(cell, np.ones((20, 1, 1)))
    energy = (h * h).sum()
show("twenty steps", energy.graph(names=cell))
terms = mg.contributions(energy, cell.weight_hh)
show(
    "how much each of the last steps counts",
    *(f"t={c.t}: {np.abs(c.array).max():.2e}" for c in terms[:4]),
)
