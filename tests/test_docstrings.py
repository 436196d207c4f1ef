"""Every example in a docstring runs, and every public name has one."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import minigrad as mg

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(mg.__path__, "minigrad.")
    if not found.name.endswith("__main__") and not found.name.endswith("._native")
]
MODULES.append(mg)

PUBLIC = {f"mg.{name}": getattr(mg, name) for name in mg.__all__}
PUBLIC |= {f"mg.nn.{name}": getattr(mg.nn, name) for name in mg.nn.__all__}
for part in (mg.nn.init, mg.nn.utils, mg.optim):
    PUBLIC |= {
        f"{part.__name__}.{name}": value
        for name, value in vars(part).items()
        if getattr(value, "__module__", None) == part.__name__ and not name.startswith("_")
    }


def examples(module):
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module, globs=vars(module) | {"mg": mg, "np": np})
    return [test for test in found if test.examples]


EXAMPLES = [test for module in MODULES for test in examples(module)]


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_example(test):
    report = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)
    assert runner.tries > 0


def test_the_walk_finds_the_examples():
    names = {test.name for test in EXAMPLES}
    assert {"minigrad.graph.tensor", "minigrad.nn.layers.Linear", "minigrad.optim.SGD"} <= names
    assert len(names) > 30


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_a_docstring(name):
    value = PUBLIC[name]
    assert value.__doc__ and value.__doc__.strip(), "missing, or only inherited"


def needs_example(value):
    """Functions and classes; the base of all errors shows for the others what they look like."""
    error = inspect.isclass(value) and issubclass(value, mg.MinigradError)
    return inspect.isroutine(value) or (inspect.isclass(value) and not error)


@pytest.mark.parametrize("name", sorted(n for n, v in PUBLIC.items() if needs_example(v)))
def test_every_public_function_and_class_has_an_example(name):
    assert ">>>" in PUBLIC[name].__doc__
