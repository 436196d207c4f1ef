"""The contestants: minigrad and its peers, each as its own users would write the layer.

A library is a function `start(problem, threads) -> list of Variant`: ways to compute the same, of
which the fastest competes. It raises `Absent` for what the library does not offer. Imports are
inside, so that a worker loads one library only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .problems import WEIGHTS, Arrays, Problem, arrays, in_minigrad, is_fused


class Absent(Exception):
    """Says what a library does not offer."""


class Variant(NamedTuple):
    """One way to compute a problem: what is timed, how to read its result, what to call it.

    The first call of `run` may compile.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Arrays]
    note: str


# --- minigrad ------------------------------------------------------------------------------------


def start_minigrad(problem: Problem, threads: int) -> list[Variant]:
    from minigrad import kernels

    kernels.set_threads(threads)
    note = "fused" if is_fused(problem) else "unfolded"
    return [Variant(in_minigrad(problem, "auto"), lambda found: found, note)]


def start_unfolded(problem: Problem, threads: int) -> list[Variant]:
    from minigrad import kernels

    kernels.set_threads(threads)
    return [Variant(in_minigrad(problem, False), lambda found: found, "unfolded")]


# --- PyTorch: nn.LSTM, nn.GRU, nn.RNN, eager -----------------------------------------------------


def start_torch(problem: Problem, threads: int) -> list[Variant]:
    import torch

    kind, given = problem.kind, arrays(problem)
    if problem.cell == "gru-before":
        raise Absent("nn.GRU resets after the product only")
    torch.set_num_threads(threads)
    data = {name: torch.from_numpy(a) for name, a in given.items()}
    layer = getattr(torch.nn, kind.layer)(
        *problem.shape[2:], dtype=data["xs"].dtype, **kind.options
    )
    layer.load_state_dict({f"{name}_l0": data[name] for name in WEIGHTS})
    leaves = {"xs": data["xs"], **{name: data[name][None] for name in kind.states}}
    states = tuple(leaves[name] for name in kind.states)

    def called():
        return layer(leaves["xs"], states if len(states) > 1 else states[0])[0]

    def infer():
        with torch.no_grad():
            return called()

    if not problem.training:
        layer.eval()
        return [Variant(infer, lambda ys: {"ys": ys.numpy()}, "eager")]
    for leaf in leaves.values():
        leaf.requires_grad_()
    wanted = {**leaves, **{name: getattr(layer, f"{name}_l0") for name in WEIGHTS}}

    def train():
        for leaf in wanted.values():
            leaf.grad = None
        ys = called()
        ys.backward(data["dys"])
        return ys

    def read(ys) -> Arrays:
        grads = {name: leaf.grad.numpy() for name, leaf in wanted.items()}
        return {"ys": ys.detach().numpy(), **grads}

    return [Variant(train, read, "eager")]


# --- JAX: lax.scan, compiled ---------------------------------------------------------------------


def jax_step(cell: str, x, state, p):
    """One step from the products of the input, x (N, G H): the new state, h first."""
    import jax
    import jax.numpy as jnp

    h, sigmoid = state[0], jax.nn.sigmoid
    if cell == "lstm":
        i, f, g, o = jnp.split(x + h @ p["weight_hh"] + p["bias_hh"], 4, axis=1)
        c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c
    if cell == "gru":
        xr, xz, xn = jnp.split(x, 3, axis=1)
        hr, hz, hn = jnp.split(h @ p["weight_hh"] + p["bias_hh"], 3, axis=1)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        n = jnp.tanh(xn + r * hn)
        return ((1 - z) * n + z * h,)
    if cell == "gru-before":
        two = 2 * h.shape[1]  # the columns of r and z
        U, b = p["weight_hh"], p["bias_hh"]
        r, z = jnp.split(sigmoid(x[:, :two] + h @ U[:, :two] + b[:two]), 2, axis=1)
        n = jnp.tanh(x[:, two:] + (r * h) @ U[:, two:] + b[two:])
        return ((1 - z) * n + z * h,)
    z = x + h @ p["weight_hh"] + p["bias_hh"]
    return (jnp.tanh(z) if cell == "rnn" else jax.nn.relu(z),)


def jax_sequence(cell: str, hoisted: bool, split: bool, xs, states, p):
    """The outputs of all steps; `hoisted`, the products of the inputs are one before the loop."""
    import jax

    def project(x):
        return x @ p["weight_ih"] + p["bias_ih"]

    def step(state, x):
        state = jax_step(cell, x if hoisted else project(x), state, p)
        return state, state[0]

    return jax.lax.scan(step, states, project(xs) if hoisted else xs, _split_transpose=split)[1]


def start_jax(problem: Problem, threads: int) -> list[Variant]:
    import jax

    jax.config.update("jax_enable_x64", problem.dtype == "f64")
    given = arrays(problem)
    weights = {name: given[name].T for name in WEIGHTS}  # (inputs, outputs), as its users have them
    states = tuple(given[name] for name in problem.kind.states)
    data = jax.device_put((given["xs"], states, weights))
    dys = jax.device_put(given["dys"])

    def variant(hoisted: bool, split: bool) -> Variant:
        ys_of = partial(jax_sequence, problem.cell, hoisted, split)

        def both(data, dys):
            ys, pull = jax.vjp(ys_of, *data)
            return ys, pull(dys)

        if problem.training:
            compiled = jax.jit(both)
            run = lambda: jax.block_until_ready(compiled(data, dys))  # noqa: E731
        else:
            compiled = jax.jit(lambda data: (ys_of(*data), None))
            run = lambda: jax.block_until_ready(compiled(data))  # noqa: E731
        note = "hoisted" if hoisted else "in the loop"
        return Variant(run, read, note + ", split transpose" * split)

    def read(result) -> Arrays:
        ys, grads = result
        if grads is None:
            return {"ys": np.asarray(ys)}
        dxs, dstates, dweights = grads
        return {
            "ys": np.asarray(ys),
            "xs": np.asarray(dxs),
            **dict(zip(problem.kind.states, map(np.asarray, dstates), strict=True)),
            **{name: np.asarray(g).T for name, g in dweights.items()},
        }

    splits = (False, True) if problem.training else (False,)
    return [variant(hoisted, split) for hoisted in (True, False) for split in splits]


# --- ONNX Runtime: the operators LSTM, GRU and RNN, inference ------------------------------------

# Where its gates stand in PyTorch's order: i o f c of i f g o, z r h of r z n.
ONNX_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def onnx_model(problem: Problem) -> bytes:
    """A model of one node, its weights constants."""
    from onnx import TensorProto, helper, numpy_helper

    kind, given = problem.kind, arrays(problem)
    steps, rows, inputs, hidden = problem.shape

    def ordered(a: np.ndarray) -> np.ndarray:
        gates = a.reshape(kind.gates, hidden, -1)[list(ONNX_GATES[kind.layer])]
        return gates.reshape(a.shape)[None]  # of one direction

    constants = {
        "W": ordered(given["weight_ih"]),
        "R": ordered(given["weight_hh"]),
        "B": np.concatenate([ordered(given["bias_ih"]), ordered(given["bias_hh"])], axis=1),
    }
    options: dict[str, Any] = {}
    if kind.layer == "GRU":
        options["linear_before_reset"] = int(problem.cell == "gru")
    if kind.layer == "RNN":
        options["activations"] = ["Relu" if problem.cell == "rnn-relu" else "Tanh"]
    names = ["X", "W", "R", "B", "", *kind.states]
    node = helper.make_node(kind.layer, names, ["Y"], hidden_size=hidden, **options)
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        problem.cell,
        [helper.make_tensor_value_info("X", real, [steps, rows, inputs])]
        + [helper.make_tensor_value_info(s, real, [1, rows, hidden]) for s in kind.states],
        [helper.make_tensor_value_info("Y", real, [steps, 1, rows, hidden])],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    opset = helper.make_opsetid("", 14)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def start_onnxruntime(problem: Problem, threads: int) -> list[Variant]:
    import onnxruntime

    if problem.training:
        raise Absent("inference only")
    if problem.dtype != "f32":
        raise Absent("float32 only")
    model, given = onnx_model(problem), arrays(problem)
    feeds = {"X": given["xs"], **{name: given[name][None] for name in problem.kind.states}}

    def variant(spinning: bool) -> Variant:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        # Threads that spin after a run would take time from whoever runs next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        note = "spinning within a run" if spinning else "no spinning"
        return Variant(lambda: session.run(None, feeds), lambda found: {"ys": found[0]}, note)

    return [variant(spinning) for spinning in ((False, True) if threads > 1 else (False,))]


# --- all of them ---------------------------------------------------------------------------------

LIBRARIES: dict[str, Callable[[Problem, int], list[Variant]]] = {
    "minigrad": start_minigrad,
    "torch": start_torch,
    "jax": start_jax,
    "onnxruntime": start_onnxruntime,
    "unfolded": start_unfolded,  # minigrad, node by node; on demand
}
PEERS = ["torch", "jax", "onnxruntime"]
NEEDS = {"onnxruntime": ("onnxruntime", "onnx"), "unfolded": ("minigrad",)}


def missing(name: str) -> list[str]:
    """The modules that a library needs and that are not installed."""
    return [m for m in NEEDS.get(name, (name,)) if importlib.util.find_spec(m) is None]


def version(name: str) -> str:
    """The version of an installed library."""
    return importlib.metadata.version(NEEDS.get(name, (name,))[0])
