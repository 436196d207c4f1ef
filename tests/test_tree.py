"""Nested containers: taken apart, put back, matched, and modules among them."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tree

Pair = namedtuple("Pair", "a b")

nested = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.none()
    ),
    max_leaves=12,
)


@given(nested)
def test_taken_apart_and_put_back_is_the_same(x):
    leaves, form = tree.flatten(x)
    again = form.build(leaves)
    assert again == x
    assert repr(again) == repr(x)  # the kinds too: a named tuple equals a tuple
    assert form.leaves_of(x, "x") == leaves
    assert tree.map(lambda leaf, other: (leaf, other)[1], x, x) == x


def outline(x):
    """What two containers of one form have in common."""
    if isinstance(x, dict):
        return "dict", sorted((k, outline(v)) for k, v in x.items())
    if isinstance(x, tuple | list):
        return type(x).__name__, [outline(v) for v in x]
    return "leaf" if x is not None else "None"


@given(nested, nested)
def test_forms_fit_where_kinds_and_keys_are_the_same_everywhere(x, y):
    leaves, form = tree.flatten(x)
    try:
        assert len(form.leaves_of(y, "y")) == len(leaves)
        fits = True
    except mg.UsageError:
        fits = False
    if "None" not in repr(y):  # None may stand for a leaf
        assert fits == (outline(x) == outline(y))


def test_leaves_are_found_by_key_and_not_by_order():
    form = tree.flatten({"a": 1, "b": 2})[1]
    assert form.leaves_of({"b": 20, "a": 10}, "x") == [10, 20]
    assert form.leaves_of(OrderedDict(b=None, a=10), "x") == [10, None]


@pytest.mark.parametrize(
    ("wrong", "what", "expected_and_got"),
    [
        ((1, [2]), "x", "expected dict of 'w', 'r', got tuple of 2 part(s)"),
        ({"w": 1}, "x", "expected dict of 'w', 'r', got dict of 'w'"),
        ({"w": [1], "r": (1, None)}, "x['w']", "expected one array, got list of 1 part(s)"),
        ({"w": 1, "r": (1,)}, "x['r']", "expected tuple of 2 part(s), got tuple of 1 part(s)"),
        ({"w": 1, "r": (1, 2)}, "x['r'][1]", "expected None, got one array"),
        ({"w": 1, "r": None}, "x['r']", "expected tuple of 2 part(s), got None"),
        ({"w": {}, "r": (1, None)}, "x['w']", "expected one array, got dict of nothing"),
    ],
)
def test_another_form_is_refused_with_its_path(wrong, what, expected_and_got):
    form = tree.flatten({"w": 1, "r": (2, None)})[1]
    with pytest.raises(mg.UsageError) as caught:
        form.leaves_of(wrong, "x")
    assert str(caught.value).splitlines() == [
        f"{what}: its form",
        f"  {expected_and_got}",
        "  remedy: nest tuples, lists and dicts like those that it belongs to",
    ]
    with pytest.raises(mg.UsageError, match=r"^tree.map: argument 1"):
        tree.map(lambda x, y: x, {"w": 1, "r": (2, None)}, wrong)


# --- modules -------------------------------------------------------------------------------------


class Model(mg.nn.Module):
    def __init__(self):
        self.layer = mg.nn.Linear(2, 2, rng=0)
        self.many = [mg.nn.Linear(2, 2, bias=False, rng=1), "text"]
        self.tied = self.layer
        self.table = {"first": self.many[0]}  # no part of the model by name, but the same object
        self.log = []
        self.act = self.relu
        self.frozen = mg.nn.Parameter(np.ones(1))
        self.frozen.requires_grad = False

    def relu(self, x):
        return mg.relu(x) * self.layer.bias


NAMES = ["layer.weight", "layer.bias", "many.0.weight"]


def test_a_module_counts_as_the_dict_of_the_parameters_that_learn():
    model = Model()
    leaves, form = tree.flatten((model, [1]))
    assert form.build("abcd") == (dict(zip(NAMES, "abc", strict=True)), ["d"])
    assert all(a is b for a, b in zip(leaves[:3], model.parameters(), strict=False))
    assert tree.flatten(model, objects=False)[0] == [model]
    sizes = tree.map(lambda p, g: p.size + g, model, dict.fromkeys(reversed(NAMES), 1))
    assert sizes == {"layer.weight": 5, "layer.bias": 3, "many.0.weight": 5}


def test_a_copy_of_a_module_holds_other_tensors_and_shares_the_rest():
    model = Model()
    before = model.state_dict()
    leaves, form = tree.flatten(model)
    new = [mg.tensor(p.data + 1, requires_grad=True) for p in leaves]
    copy = form.build(new, copies=True)
    assert type(copy) is Model
    for p, t in zip(dict(copy.named_parameters()).items(), new, strict=False):
        assert isinstance(p[1], mg.nn.Parameter)
        assert p[1].data is t.data and p[1].source is t.source
    assert [name for name, _ in copy.named_parameters()] == [*NAMES, "frozen"]
    assert copy.tied is copy.layer and copy.layer is not model.layer
    assert copy.table["first"] is copy.many[0] and copy.many[0] is not model.many[0]
    assert copy.act.__self__ is copy
    assert copy.log is model.log and copy.frozen is model.frozen and copy.many[1] == "text"
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


def test_a_named_class_of_ones_own():
    class Box:
        def __init__(self, **parts):
            self.__dict__ |= parts

    class Smaller(Box):
        pass

    tree.register(Box, vars, lambda x, parts: type(x)(**parts))
    try:
        g = mg.grad(lambda box: (box.w * box.w).sum())(Smaller(w=np.ones(2), n=3))
        assert g["w"].tolist() == [2.0, 2.0] and g["n"] is None
        seen = []
        mg.grad(lambda box: seen.append(type(box)) or box.w)(Smaller(w=1.0))
        assert seen == [Smaller]
    finally:
        del tree._registered[Box]
