"""What a person sees when it goes wrong: three lines, and nothing left unfilled."""

import ast
import inspect
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import errors, kernels
from minigrad.ops.linear import products

PACKAGE = Path(mg.__file__).parent
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, mg.MinigradError)
}


def leaf(value, dtype=np.float64):
    return mg.tensor(value, dtype=dtype, requires_grad=True)


def used_up():
    x = leaf(1.0)
    y = x * x
    y.backward()
    return y


def set_grad(t, value):
    t.grad = value


def set_requires_grad(t):
    t.requires_grad = True


def step_of_another_shape():
    p = leaf([1.0, 2.0])
    optimizer = mg.optim.SGD([p], lr=1.0)
    (p * p).sum().backward()
    p.data = np.ones(3)
    optimizer.step()


class Alone(mg.nn.Cell):
    """A cell that forgets to return its state."""

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, 3), dtype))

    def __call__(self, x, h):
        return x


class Growing(Alone):
    """A cell whose state has another shape after a step."""

    def __call__(self, x, h):
        return x, mg.concatenate([h, h], axis=1)


ONES = np.ones((2, 3))


class Doubled(mg.nn.RNNCell):
    """A step of its own, so no fused path."""

    def __call__(self, x, state):
        return super().__call__(2 * x, state)


CELL = mg.nn.RNNCell(3, 2, rng=0)

# The call, its exception, and the three lines.
MESSAGES = [
    (
        lambda: mg.tensor([1j]),
        mg.DtypeError,
        "tensor: a dtype minigrad does not compute with",
        "expected float32, float64 or integers, got complex128",
        "convert with .astype(np.float32) or .astype(np.float64)",
    ),
    (
        lambda: mg.tensor([1], requires_grad=True),
        mg.DtypeError,
        "requires_grad: a tensor that cannot have a gradient",
        "expected float32 or float64, got int64",
        "convert with .astype(np.float64) first",
    ),
    (
        lambda: set_requires_grad(leaf(1.0) * 2),
        mg.GradientError,
        "requires_grad: set on a computed tensor",
        "expected a leaf, got the output of multiply",
        "use .detach() to cut a tensor from its graph",
    ),
    (
        lambda: set_grad(mg.tensor(1.0), 1.0),
        mg.GradientError,
        "grad: set on a tensor that keeps none",
        "expected a leaf with requires_grad=True",
        "set requires_grad=True first",
    ),
    (
        lambda: set_grad(leaf([1.0, 2.0]), np.ones(3, np.float32)),
        mg.ShapeError,
        "grad: set to a tensor of another kind",
        "expected float64 (2,), got float32 (3,)",
        "a gradient has the shape and dtype of its tensor",
    ),
    (
        lambda: leaf(1.0).numpy(),
        mg.GradientError,
        "numpy: called on a tensor that needs a gradient",
        "expected a constant; the gradient would be lost",
        "use .detach().numpy()",
    ),
    (
        lambda: np.asarray(leaf(1.0)),
        mg.GradientError,
        "numpy: a tensor that needs a gradient turned into an array",
        "expected a constant; the gradient would be lost",
        "use .detach().numpy()",
    ),
    (
        lambda: mg.Op("f", np.sin),
        mg.UsageError,
        "Op f: its rules",
        "expected either vjps (one rule an argument) or vjp (one rule for all)",
        "pass exactly one of the two; vjps=[None] for a function without gradient",
    ),
    (
        lambda: leaf([1.0], np.float32) + leaf([1.0]),
        mg.DtypeError,
        "add: argument 1",
        "expected float32 like the arguments before it, got float64",
        "convert one side, for example with .astype(np.float32)",
    ),
    (
        lambda: leaf(ONES).reshape(4),
        mg.ShapeError,
        "reshape: arguments that do not fit together",
        "got shapes (2, 3): cannot reshape array of size 6 into shape (4,)",
        "check the shapes; reshape or transpose one side",
    ),
    (
        lambda: used_up().backward(),
        mg.GraphFreedError,
        "backward: through multiply, whose graph is gone",
        "expected a graph that no earlier backward pass has used up",
        "run the forward pass again, or pass retain_graph=True to the first backward; "
        "for a state carried on from an earlier piece of a sequence: mg.detach_state(state)",
    ),
    (
        lambda: mg.tensor(1.0).backward(),
        mg.GradientError,
        "backward: from a tensor that depends on nothing that needs a gradient",
        "expected requires_grad=True somewhere behind it",
        "create the inputs with requires_grad=True, and check for no_grad() and .detach()",
    ),
    (
        lambda: leaf([1.0, 2.0]).backward(),
        mg.GradientError,
        "backward: from a tensor with several elements",
        "expected one element, got shape (2,)",
        "sum it first, or pass the cotangent as gradient=",
    ),
    (
        lambda: leaf([1.0, 2.0]).backward(np.ones(3)),
        mg.ShapeError,
        "backward: gradient=",
        "expected float64 (2,), got float64 (3,)",
        "the cotangent has the shape and dtype of the tensor it belongs to",
    ),
    (
        lambda: mg.tensor([2, 3]) ** -1,
        mg.UsageError,
        "power: integers to a negative power",
        "expected floats, or exponents of 0 and above: the result is no integer",
        "convert the base with .astype(np.float64)",
    ),
    (
        lambda: np.cbrt(leaf([1.0])),
        mg.GradientError,
        "numpy.cbrt: of a tensor",
        "expected a function with a gradient rule here, got one without",
        "build it from the ops of minigrad, or use .detach().numpy() if no gradient is wanted",
    ),
    (
        lambda: np.add(np.ones(1), leaf([1.0]), out=np.ones(1)),
        mg.GradientError,
        "numpy.add: of a tensor, in another form than a plain call",
        "expected arguments alone, got out",
        "use the result as a new tensor, or .detach().numpy() if no gradient is wanted",
    ),
    (
        lambda: mg.grad(lambda x: 2.0)(1.0),
        mg.GradientError,
        "grad: the result of the function",
        "expected tensors of floats, got float",
        "compute with the arguments themselves; check for .detach(), .item(), .numpy()",
    ),
    (
        lambda: mg.grad(lambda x: x * x)(3),
        mg.DtypeError,
        "grad: argument 0: nothing to differentiate by",
        "expected float32 or float64, got int",
        "convert with .astype(np.float64), write 3.0 for 3, or leave the argument out",
    ),
    (
        lambda: mg.matmul(leaf(ONES), ONES),
        mg.ShapeError,
        "matmul: the inner sizes of its arguments",
        "expected (..., M, K) and (..., K, N), got (2, 3) and (2, 3)",
        "transpose one side, or check which axis is contracted",
    ),
    (
        lambda: mg.affine(ONES, np.ones((4, 2)), np.ones(4)),
        mg.ShapeError,
        "affine: x and weight",
        "expected (..., K) and (N, K), got (2, 3) and (4, 2)",
        "a weight has a row for each output and a column for each input",
    ),
    (
        lambda: mg.affine(ONES, np.ones((4, 3)), np.ones(3)),
        mg.ShapeError,
        "affine: start",
        "expected (4,) or (2, 4), got (3,)",
        "a bias has one entry for each row of the weight",
    ),
    (
        lambda: products(ONES, ONES.T),
        mg.ShapeError,
        "products: pair 0",
        "expected as many rows in both, got (2, 3) and (3, 2)",
        "check the shapes",
    ),
    (
        lambda: kernels.scatter_rows(np.array([0, 7]), ONES, (4, 3)),
        mg.ShapeError,
        "scatter_rows: index",
        "expected rows from -4 to 3, got 0 to 7",
        "check the indices against the number of rows",
    ),
    (
        lambda: kernels.check_lengths([1, 9], 3, 2),
        mg.ShapeError,
        "lengths: one for each row of the batch",
        "expected 2 integers from 0 to 3, got int64 (2,) from 1 to 9",
        "pass the number of steps of each sequence",
    ),
    (
        lambda: mg.set_num_threads(0),
        mg.UsageError,
        "set_num_threads: the number of threads",
        "expected an integer from 1 to 1024, got 0",
        "MINIGRAD_NUM_THREADS and set_num_threads take a small positive integer",
    ),
    (
        lambda: mg.unfold(CELL, np.ones(3)),
        mg.ShapeError,
        "unfold: xs",
        "expected (T, N, ...), time first, got (3,)",
        "add the axes that are missing; one sequence is a batch of one row",
    ),
    (
        lambda: mg.unfold(Doubled(3, 2), np.ones((2, 1, 3)), fused=True),
        mg.UsageError,
        "unfold: fused=True for Doubled",
        "expected a cell with a fused path, got one that has none",
        'pass fused=False, or "auto" to take a fused path only where there is one',
    ),
    (
        lambda: mg.unfold(CELL, [np.ones((2, 3))], lengths=[2]),
        mg.UsageError,
        "unfold: lengths beside a list of sequences",
        "expected one of the two, got both",
        "leave lengths out: a list brings its own",
    ),
    (
        lambda: mg.nn.LSTM(3, 2, rng=0)(np.ones((5, 4, 2))),
        mg.ShapeError,
        "LSTM: xs",
        "expected (T, N, I) with I = 3, got (5, 4, 2); with batch_first=True it is (N, T, I)",
        "T steps, N rows of the batch, I features",
    ),
    (
        lambda: mg.nn.Embedding(5, 2, rng=0)([1.5]),
        mg.DtypeError,
        "Embedding: ids",
        "expected integers, got float64",
        "convert with .astype(np.int64)",
    ),
    (
        lambda: mg.nn.Embedding(5, 2, rng=0)([3, 5]),
        mg.ShapeError,
        "Embedding: ids",
        "expected numbers from 0 to 4, got 3 to 5",
        "make the table as large as the vocabulary",
    ),
    (
        lambda: mg.nn.cross_entropy(mg.tensor(ONES), [0]),
        mg.ShapeError,
        "cross_entropy: targets",
        "expected integers of shape (2,), got int64 (1,)",
        "targets are class numbers, one for each row of logits",
    ),
    (
        lambda: mg.nn.cross_entropy(mg.tensor(ONES), [0, 3]),
        mg.ShapeError,
        "cross_entropy: targets",
        "expected class numbers from 0 to 2, got 0 to 3",
        "give the logits as many columns as there are classes",
    ),
    (
        lambda: mg.nn.Linear(3, 1, rng=0).load_state_dict({"weight": np.ones((1, 2)), "b": 0}),
        mg.StateDictError,
        "load_state_dict: Linear",
        "expected the names and shapes of its parameters: bias is missing; b is unknown; "
        "weight has shape (1, 2) and not (1, 3)",
        "build the module with the sizes of the saved one; nothing was changed",
    ),
    (
        lambda: mg.optim.Adam([leaf([1.0])]).load_state_dict({"steps": 1, "m.0": np.ones(1)}),
        mg.StateDictError,
        "load_state_dict: Adam",
        "expected the running arrays of its parameters; missing, unknown or of another "
        "shape: t.0, v.0",
        "build the optimiser for the same model; nothing was changed",
    ),
    (
        lambda: mg.optim.SGD([], lr=1.0),
        mg.UsageError,
        "SGD: parameters",
        "expected at least one, got none",
        "pass model.parameters(); a generator can be used up only once",
    ),
    (
        lambda: mg.optim.SGD([leaf([1.0])], lr=-1.0),
        mg.UsageError,
        "SGD: lr",
        "expected > 0, got -1.0",
        "try 1e-3",
    ),
    (
        lambda: mg.tensor([[1.0, 2.0], [3.0]]),
        mg.DtypeError,
        "tensor: what cannot be an array of numbers",
        "expected numbers, as many in each row, got: setting an array element with a sequence. "
        "The requested array has an inhomogeneous shape after 1 dimensions. The detected shape "
        "was (2,) + inhomogeneous part.",
        "make all rows equally long, and check the dtype",
    ),
    (
        lambda: leaf([1.0]) + "text",
        mg.DtypeError,
        "add, argument 1: a dtype minigrad does not compute with",
        "expected float32, float64 or integers, got <U4",
        "convert with .astype(np.float32) or .astype(np.float64)",
    ),
    (
        lambda: leaf([1.0]) * 1j,
        mg.DtypeError,
        "multiply, argument 1: a dtype minigrad does not compute with",
        "expected float32, float64 or integers, got complex128",
        "convert with .astype(np.float32) or .astype(np.float64)",
    ),
    (
        lambda: mg.tensor(True) - mg.tensor(True),
        mg.DtypeError,
        "subtract: arguments that it does not take",
        "got bool, bool: numpy boolean subtract, the `-` operator, is not supported, use the "
        "bitwise_xor, the `^` operator, or the logical_xor function instead.",
        "check how many there are, their names and their dtypes",
    ),
    (
        lambda: mg.multiply(leaf([1.0])),
        mg.DtypeError,
        "multiply: arguments that it does not take",
        "got float64: multiply() takes from 2 to 3 positional arguments but 1 was given",
        "check how many there are, their names and their dtypes",
    ),
    (
        lambda: leaf([1.0, 2.0]).item(),
        mg.UsageError,
        "item: of a tensor with several elements",
        "expected one element, got shape (2,)",
        "take one by its index, or use .data",
    ),
    (
        lambda: bool(mg.tensor(np.ones(0))),
        mg.UsageError,
        "bool: of a tensor with no element",
        "expected one element, got shape (0,)",
        "compare .data with .any() or .all()",
    ),
    (
        lambda: len(mg.tensor(1.0)),
        mg.UsageError,
        "len: of a tensor that is a single number",
        "expected at least one axis, got shape ()",
        "use .size, or .reshape(1)",
    ),
    (
        lambda: mg.backward(3.0),
        mg.GradientError,
        "backward: from what is no tensor",
        "expected a tensor, got float",
        "compute it from tensors with requires_grad=True, without .data and .item()",
    ),
    (
        lambda: leaf(1.0).register_hook("text"),
        mg.UsageError,
        "register_hook: the hook",
        "expected a function of the cotangent, got str",
        "pass a function that takes g and returns another, or None to leave it as it is",
    ),
    (
        lambda: mg.from_dlpack([1.0]),
        mg.UsageError,
        "from_dlpack: the array",
        "expected one that offers __dlpack__, got list",
        "use mg.tensor, which copies",
    ),
    (
        lambda: mg.unfold(mg.nn.LSTM(3, 2, rng=0), np.ones((5, 4, 3))),
        mg.UsageError,
        "unfold: cell",
        "expected a Cell, got LSTM",
        "pass an instance of mg.nn.Cell; a layer such as mg.nn.LSTM is called by itself",
    ),
    (
        lambda: mg.unfold(Growing(), np.ones((2, 1, 3)), lengths=[1]),
        mg.ShapeError,
        "unfold: the state after step 1",
        "expected the form [1, 6] of the state before, got [1, 12]",
        "with lengths, a state keeps its form over time",
    ),
    (
        lambda: mg.unfold(Alone(), np.ones((2, 1, 3))),
        mg.UsageError,
        "unfold: what the cell returns",
        "expected a pair (output, new state), got ndarray",
        "return both, also where they are the same: return h, h",
    ),
    (
        lambda: mg.nn.Linear(3, -1),
        mg.UsageError,
        "Linear: out_features",
        "expected a whole number from 0, got -1",
        "pass the number of features, units or rows",
    ),
    (
        lambda: mg.nn.LSTM(3, 2, dtype=int),
        mg.DtypeError,
        "LSTMCell: dtype",
        "expected float32 or float64, got <class 'int'>",
        "pass dtype=np.float32 or dtype=np.float64",
    ),
    (
        lambda: mg.nn.Linear(3, 2, rng="seed"),
        mg.UsageError,
        "rng: where random numbers come from",
        "expected a seed of 0 or above, or a numpy.random.Generator, got 'seed'",
        "pass rng=0 for the same numbers in each run",
    ),
    (
        lambda: mg.nn.init.xavier_uniform_(leaf([1.0]), rng=0),
        mg.ShapeError,
        "xavier_uniform_: what is to be filled",
        "expected (out, in), got (1,)",
        "use uniform_, normal_ or constant_ for what is no matrix",
    ),
    (
        lambda: mg.nn.init.constant_(np.ones(1), 2.0),
        mg.UsageError,
        "constant_: what is to be filled",
        "expected a tensor, got ndarray",
        "pass the parameter itself and not its array",
    ),
    (
        lambda: mg.nn.init.normal_(leaf([1.0]), 0.0, -1.0, rng=0),
        mg.UsageError,
        "normal_: its numbers",
        "expected some that fill float64 (1,), got: scale < 0",
        "pass numbers, low before high, and a spread of 0 or above",
    ),
    (
        lambda: mg.nn.cross_entropy(mg.tensor(1.0), 0),
        mg.ShapeError,
        "cross_entropy: logits",
        "expected (..., V), got ()",
        "the last axis has one number for each class",
    ),
    (
        lambda: mg.nn.utils.clip_grad_norm_([leaf([1.0])], -1.0),
        mg.UsageError,
        "clip_grad_norm_: the limit",
        "expected a number from 0, got -1.0",
        "try 1.0",
    ),
    (
        lambda: mg.nn.utils.clip_grad_value_([np.ones(1)], 1.0),
        mg.UsageError,
        "clip_grad: parameters",
        "expected tensors, got list",
        "pass model.parameters(), or a list of tensors",
    ),
    (
        lambda: mg.nn.Linear(1, 1, rng=0).load_state_dict([1]),
        mg.StateDictError,
        "load_state_dict: Linear",
        "expected a dict of arrays by name, got list",
        "pass what state_dict() gave, or what mg.io.load has read; nothing was changed",
    ),
    (
        lambda: mg.optim.SGD(leaf([1.0]), lr=1.0),
        mg.UsageError,
        "SGD: parameters",
        "expected several, got one Tensor",
        "pass model.parameters(), or a list of tensors",
    ),
    (
        lambda: mg.optim.SGD([leaf([1.0]) * 2], lr=1.0),
        mg.UsageError,
        "SGD: parameter 0",
        "expected a leaf tensor of float32 or float64, got the output of multiply",
        "pass model.parameters(), or tensors made with requires_grad=True",
    ),
    (
        lambda: mg.optim.SGD([CELL.weight_ih, CELL.weight_ih], lr=1.0),
        mg.UsageError,
        "SGD: parameters",
        "expected each of them once, got one twice",
        "pass model.parameters(), which names a shared parameter once",
    ),
    (
        lambda: mg.optim.Adam([leaf([1.0])], betas=(0.9, 1.0)),
        mg.UsageError,
        "Adam: betas",
        "expected 0 <= beta < 1, got 1.0",
        "try (0.9, 0.999)",
    ),
    (
        lambda: step_of_another_shape(),
        mg.ShapeError,
        "SGD.step: the gradient of parameter 0 (2,)",
        "expected the shape of its parameter, (3,), got (2,)",
        "write into .data instead of replacing it, or build the optimiser anew",
    ),
]


@pytest.mark.parametrize(
    ("call", "kind", "what", "expected_and_got", "remedy"),
    MESSAGES,
    ids=[f"{i}-{m[2].replace(' ', '-')}" for i, m in enumerate(MESSAGES)],
)
def test_message(call, kind, what, expected_and_got, remedy):
    with pytest.raises(mg.MinigradError) as caught:
        call()
    assert type(caught.value) is kind
    lines = str(caught.value).split("\n")
    assert lines == [what, f"  {expected_and_got}", f"  remedy: {remedy}"]


def test_every_error_prints_its_three_lines_and_survives_pickling():
    for name, kind in ERRORS.items():
        error = kind("what", "expected a, got b", "do c")
        assert str(error) == "what\n  expected a, got b\n  remedy: do c"
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert str(again) == str(error)
        assert getattr(mg, name) is kind


def test_errors_are_what_python_calls_them():
    assert issubclass(mg.ShapeError, ValueError)
    assert issubclass(mg.DtypeError, TypeError)
    assert issubclass(mg.GraphFreedError, mg.GradientError)
    assert issubclass(mg.GradientError, RuntimeError)
    assert issubclass(mg.FileError, OSError)


# --- whatever is passed --------------------------------------------------------------------------

ODD = [None, "text", 3.5, -1, True, 1j, object(), {}, [[1.0], [1.0, 2.0]], np.full(2, "a")]
ODD += [np.ones((1, 2, 3, 4)), np.ones(0), np.array(None), np.ones(2, np.longdouble), [None]]

PARAMETER = mg.nn.Parameter(np.ones(2))
PARAMETER.grad = np.ones(2)
XS = np.ones((4, 2, 3))
LSTM = mg.nn.LSTM(3, 2, rng=0)

# Functions of one odd argument, whatever stands in the others.
TAKERS = {
    "tensor": mg.tensor,
    "tensor dtype": lambda odd: mg.tensor([1.0], dtype=odd),
    "Parameter": mg.nn.Parameter,
    "add": lambda odd: leaf([1.0]) + odd,
    "radd": lambda odd: odd + leaf([1.0]),
    "matmul": lambda odd: leaf(ONES) @ odd,
    "grad": lambda odd: set_grad(leaf(1.0), odd),
    "backward": mg.backward,
    "backward gradient": lambda odd: leaf([1.0, 2.0]).backward(odd),
    "detach_state": mg.detach_state,
    "unfold cell": lambda odd: mg.unfold(odd, XS),
    "unfold xs": lambda odd: mg.unfold(CELL, odd),
    "unfold state": lambda odd: mg.unfold(CELL, XS, odd),
    "unfold lengths": lambda odd: mg.unfold(CELL, XS, lengths=odd),
    "unfold fused": lambda odd: mg.unfold(CELL, XS, fused=odd),
    "tbptt model": lambda odd: list(mg.tbptt(odd, XS, 2)),
    "tbptt xs": lambda odd: list(mg.tbptt(CELL, odd, 2)),
    "tbptt k": lambda odd: list(mg.tbptt(CELL, XS, odd)),
    "LSTM input_size": lambda odd: mg.nn.LSTM(odd, 2),
    "LSTM num_layers": lambda odd: mg.nn.LSTM(2, 2, odd),
    "LSTM dtype": lambda odd: mg.nn.LSTM(2, 2, dtype=odd),
    "LSTM rng": lambda odd: mg.nn.LSTM(2, 2, rng=odd),
    "LSTM xs": LSTM,
    "LSTM state": lambda odd: LSTM(XS, odd),
    "LSTM part of a state": lambda odd: LSTM(XS, (odd, odd)),
    "Recurrent": lambda odd: mg.nn.Recurrent(odd),
    "Linear": lambda odd: mg.nn.Linear(odd, 2),
    "Linear x": mg.nn.Linear(3, 2, rng=0),
    "Embedding": lambda odd: mg.nn.Embedding(2, odd),
    "Embedding ids": mg.nn.Embedding(5, 2, rng=0),
    "cross_entropy logits": lambda odd: mg.nn.cross_entropy(odd, [0]),
    "cross_entropy targets": lambda odd: mg.nn.cross_entropy(mg.tensor(ONES), odd),
    "cross_entropy reduction": lambda odd: mg.nn.cross_entropy(mg.tensor(ONES), [0, 0], odd),
    "sequence_cross_entropy": lambda odd: mg.nn.sequence_cross_entropy(odd, [[0]], [1]),
    "mse_loss": lambda odd: mg.nn.mse_loss(odd, odd),
    "uniform_": lambda odd: mg.nn.init.uniform_(leaf([1.0]), 0.0, odd, rng=0),
    "constant_": lambda odd: mg.nn.init.constant_(leaf([1.0]), odd),
    "constant_ p": lambda odd: mg.nn.init.constant_(odd, 1.0),
    "clip_grad_norm_": lambda odd: mg.nn.utils.clip_grad_norm_([PARAMETER], odd),
    "clip_grad_norm_ parameters": lambda odd: mg.nn.utils.clip_grad_norm_(odd, 1.0),
    "clip_grad_value_": lambda odd: mg.nn.utils.clip_grad_value_([PARAMETER], odd),
    "load_state_dict": lambda odd: mg.nn.Linear(1, 1, rng=0).load_state_dict(odd),
    "load_state_dict value": lambda odd: mg.nn.Linear(1, 1, bias=False, rng=0).load_state_dict(
        {"weight": odd}
    ),
    "SGD": lambda odd: mg.optim.SGD(odd, lr=0.1),
    "SGD parameter": lambda odd: mg.optim.SGD([odd], lr=0.1),
    "SGD lr": lambda odd: mg.optim.SGD([PARAMETER], lr=odd),
    "SGD momentum": lambda odd: mg.optim.SGD([PARAMETER], lr=0.1, momentum=odd),
    "Adam betas": lambda odd: mg.optim.Adam([PARAMETER], betas=odd),
    "Adam eps": lambda odd: mg.optim.Adam([PARAMETER], eps=odd),
    "Adam state": lambda odd: mg.optim.Adam([PARAMETER]).load_state_dict(odd),
    "SGD state": lambda odd: mg.optim.SGD([PARAMETER], lr=0.1).load_state_dict({"steps": odd}),
    "from_dlpack": mg.from_dlpack,
    "register_hook": lambda odd: leaf(1.0).register_hook(odd),
    "set_num_threads": lambda odd: mg.set_num_threads(odd) if odd is not True else None,
}


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{type(odd).__name__}")
def test_an_odd_argument_is_taken_or_refused_in_three_lines(name, odd):
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the mean of nothing
            TAKERS[name](odd)
    except mg.MinigradError as error:
        assert len(str(error).split("\n")) == 3


# --- every raise in the source -------------------------------------------------------------------


def texts(node):
    """The constant text of an expression, f-strings and sums included."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def wrong_raises(source):
    """Lines where an error is built with other than three arguments, or with text that shows
    braces (an f-string that lost its f), a line break, or no words at all."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if name not in ERRORS:
            continue
        written = " ".join(texts(node))
        if len(node.args) != 3 or node.keywords or re.search(r"[{}]|\n|remedy:", written):
            yield node.lineno


def test_every_error_of_the_package_is_built_from_three_parts():
    sources = {p: p.read_text(encoding="utf-8") for p in sorted(PACKAGE.rglob("*.py"))}
    wrong = [f"{p.name}:{line}" for p, text in sources.items() for line in wrong_raises(text)]
    assert wrong == []
    assert sum(text.count("raise ") for text in sources.values()) > 30


@pytest.mark.parametrize(
    "source",
    ['ShapeError("a", "b")', 'ShapeError("a", "got {x}", "c")', 'm.ShapeError("a", "b", "c\\n")'],
)
def test_a_wrong_raise_is_seen(source):
    assert list(wrong_raises(f"raise {source}")) == [1]
    assert list(wrong_raises('raise ShapeError(f"{a}", "b", "c")')) == []
