"""Functions of PyTorch and of JAX as pairs; skipped where those are not installed."""

import numpy as np
import pytest

from minigrad.errors import UsageError
from minigrad.testing import check_op, gradcheck
from minigrad.testing import strategies as mgst
from minigrad.testing.adapters import from_jax, from_torch


def swish(factor):
    torch = pytest.importorskip("torch")

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            s = torch.sigmoid(x)
            ctx.save_for_backward(x, s)
            return x * s

        @staticmethod
        def backward(ctx, g):
            x, s = ctx.saved_tensors
            return factor * g * (s + x * s * (1 - s))

    return Swish


def cube(factor):
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def f(x):
        return x * x * x

    f.defvjp(lambda x: (f(x), x), lambda x, g: (factor * 3 * g * x * x,))
    return f


@pytest.mark.parametrize(("adapt", "make"), [(from_torch, swish), (from_jax, cube)])
def test_a_pair_gives_what_the_framework_gives(adapt, make):
    pair, wrong = adapt(make(1.0)), adapt(make(1.5))
    example = mgst.dressed(mgst.broadcastable(1)).sample(1)
    for dtype in ("float64", "float32"):
        (x,) = example.at(dtype=dtype).arrays()
        (out,) = pair.forward([x], {})
        assert (out.dtype, out.shape) == (x.dtype, x.shape)
        outs, pull = pair.linearise([x], {}, [0])
        (g,), (h,) = pull(np.ones_like(out)), wrong.linearise([x], {}, [0])[1](np.ones_like(out))
        assert g.dtype == x.dtype
        np.testing.assert_allclose(h, 1.5 * g, rtol=1e-6)
        assert np.array_equal(outs[0], out)


def test_several_outputs():
    torch = pytest.importorskip("torch")
    pair = from_torch(lambda x: (x.sin(), x.sum()), name="both")
    x = np.linspace(0, 1, 6).reshape(2, 3)
    outs, pull = pair.linearise([x], {}, [0])
    (g,) = pull(None, np.asarray(2.0))
    assert len(outs) == 2 and np.array_equal(g, np.full((2, 3), 2.0))
    assert torch.sin(torch.from_numpy(x)).numpy().tolist() == outs[0].tolist()


@pytest.mark.parametrize(("adapt", "library"), [(from_torch, "torch"), (from_jax, "jax")])
def test_what_is_no_function_is_refused(adapt, library):
    pytest.importorskip(library)
    with pytest.raises(UsageError, match="expected a function, got int"):
        adapt(3)


def test_arguments_have_the_names_of_the_function():

    assert check_op(from_torch(swish(1.0)), inputs=((2,),)).check.info.names == ("x",)


def test_what_jax_computes_may_be_written_to():

    pytest.importorskip("jax")
    check = check_op(from_jax(cube(1.0)), inputs=((2,),), laws=["P4"], examples=3, seed=0)
    assert check.check.run_law("P4").verdict == "pass"


def test_gradcheck_takes_torch_tensors_of_what_is_wrapped_and_says_how_to_wrap():
    torch = pytest.importorskip("torch")

    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(from_torch(torch.tanh), (x,), eps=1e-6, atol=1e-4)
    with pytest.raises(UsageError, match=r"got those of torch\n.*gradcheck\(from_torch\(f\), inp"):
        gradcheck(torch.tanh, (x,))
