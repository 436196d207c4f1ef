import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Module, Parameter


class Scale(Module):
    def __init__(self, size=2):
        self.factor = Parameter(np.arange(1.0, size + 1))
        self.note = "not a parameter"
        self.constant = mg.tensor([1.0])

    def __call__(self, x):
        return x * self.factor


class Model(Module):
    def __init__(self, size=2):
        self.first = Scale(size)
        self.many = [Scale(size), Parameter(np.zeros(())), "text"]
        self.pair = (Scale(size),)
        self.same = self.first
        self.bias = Parameter(np.zeros((1, size), np.float32))


NAMES = ["first.factor", "many.0.factor", "many.1", "pair.0.factor", "bias"]


def test_names_come_in_the_order_of_definition_each_parameter_once():
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    parameters = list(model.parameters())
    assert len({id(p) for p in parameters}) == len(parameters) == 5
    assert parameters[0] is model.first.factor


def test_a_parameter_is_a_leaf_with_its_own_copy():
    a = np.ones(2)
    p = Parameter(a)
    a[0] = 7
    assert p.data.tolist() == [1.0, 1.0]
    assert (p.requires_grad, p.is_leaf) == (True, True)
    assert Parameter(np.ones(2, np.float32)).dtype == np.float32
    with pytest.raises(mg.DtypeError):
        Parameter(np.ones(2, int))


def test_modes():
    model = Model()
    assert model.training
    assert model.eval() is model
    assert not any(m.training for m in (model, model.first, model.many[0], model.pair[0]))
    assert model.train() is model
    assert all(m.training for m in (model, model.first, model.many[0], model.pair[0]))


def test_zero_grad():
    model = Model()
    (model.first(np.ones(2)) * model.many[1]).sum().backward()
    assert model.first.factor.grad is not None
    model.zero_grad()
    assert [p.grad for p in model.parameters()] == [None] * 5


def test_a_module_must_say_what_it_computes():
    with pytest.raises(TypeError, match="Module does not define __call__"):
        Module()(1)
    with pytest.raises(NotImplementedError, match="Cell must define initial_state"):
        mg.nn.Cell().initial_state(1, np.float64)
    with pytest.raises(NotImplementedError, match="Cell must define __call__"):
        mg.nn.Cell()(1, 2)


# --- state dicts ---------------------------------------------------------------------------------


def test_round_trip():
    one, two = Model(), Model()
    for i, p in enumerate(one.parameters()):
        p.data[...] = i + 0.5
    state = one.state_dict()
    assert list(state) == NAMES
    arrays = [p.data for p in two.parameters()]
    two.load_state_dict(state)
    assert all(p.data is a for p, a in zip(two.parameters(), arrays, strict=True))
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert (p.data == q.data).all()
        assert p.dtype == q.dtype


def test_a_state_dict_is_a_copy_both_ways():
    model = Model()
    state = model.state_dict()
    state["first.factor"][...] = 9
    assert model.first.factor.data.tolist() == [1.0, 2.0]
    model.load_state_dict(state)
    state["first.factor"][...] = 5
    assert model.first.factor.data.tolist() == [9.0, 9.0]


def test_loading_converts_the_dtype_and_takes_tensors():
    model = Model()
    state = {k: mg.tensor(v, dtype=np.float64) for k, v in model.state_dict().items()}
    state["bias"] = mg.tensor([[0.1, 0.2]])
    model.load_state_dict(state)
    assert model.bias.dtype == np.float32
    assert (model.bias.data == np.array([[0.1, 0.2]], np.float32)).all()


def test_all_mismatches_are_listed_and_nothing_is_changed():
    model = Model()
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    del state["many.1"], state["bias"]
    state["stranger"] = np.zeros(3)
    state["pair.0.factor"] = np.zeros(3)
    state["first.factor"] = np.zeros((2, 1))
    with pytest.raises(mg.StateDictError) as caught:
        model.load_state_dict(state)
    for part in (
        *("load_state_dict: Model\n", "many.1 is missing", "bias is missing"),
        *("stranger is unknown", "pair.0.factor has shape (3,) and not (2,)"),
        *("first.factor has shape (2, 1) and not (2,)", "nothing was changed"),
    ):
        assert part in str(caught.value)
    assert str(caught.value).count("\n") == 2
    after = model.state_dict()
    assert all((after[k] == before[k]).all() for k in before)


@pytest.mark.parametrize("wrong", [np.array([["a", "b"]]), np.array([[1j, 2.0]]), [[None, 1.0]]])
def test_what_holds_no_numbers_is_refused_before_anything_is_changed(wrong):
    model = Model()
    state = {k: v + 1 for k, v in model.state_dict().items()}
    state["bias"] = wrong
    with pytest.raises(mg.StateDictError, match="bias"):
        model.load_state_dict(state)
    assert model.first.factor.data.tolist() == [1.0, 2.0]


def test_a_broadcastable_shape_is_still_another_shape():
    model = Scale()
    with pytest.raises(mg.StateDictError):
        model.load_state_dict({"factor": np.ones(1)})
    with pytest.raises(mg.StateDictError):
        model.load_state_dict({"factor": np.ones(())})
