"""Nested containers: tuples, lists, dicts and registered objects, taken apart into their leaves.

`flatten` gives the leaves of a container and its `Form`, which puts leaves, the same or others,
back in place. A class that is no container, but holds named parts, registers itself: a `Module`
counts as the dict of its parameters. None counts as an empty container; anything else is a leaf.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .errors import UsageError

# Of each registered class: what an object holds, by name; and its copy that holds other parts.
_registered: dict[type, tuple[Callable[[Any], Mapping], Callable[[Any, dict], Any]]] = {}


def register(
    kind: type, contents: Callable[[Any], Mapping], rebuild: Callable[[Any, dict], Any]
) -> None:
    """Lets objects of the class `kind`, and of its subclasses, count as containers.

    `contents(x)` gives the parts of x by name, `rebuild(x, parts)` a copy of x that holds other
    parts under the same names.

    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> mg.tree.register(Pair, vars, lambda x, parts: Pair(**parts))
    >>> mg.tree.map(lambda x: 2 * x, Pair(1.0, 2.0))
    {'a': 2.0, 'b': 4.0}
    """
    _registered[kind] = contents, rebuild


class Form(NamedTuple):
    """A container without its leaves: its kind (None for a leaf), and the forms of its parts."""

    kind: type | None
    parts: dict[Any, Form]
    whole: Any = None  # a registered object itself

    def build(self, leaves: Iterable, copies: bool = False) -> Any:
        """The container with `leaves` in place; registered objects as dicts, or as copies."""
        return self._build(iter(leaves), copies)

    def _build(self, leaves: Iterator, copies: bool) -> Any:
        kind = self.kind
        if kind is None:
            return next(leaves)
        parts = {key: part._build(leaves, copies) for key, part in self.parts.items()}
        if kind in _registered and copies:
            return _registered[kind][1](self.whole, parts)
        if _is_named(kind):
            return parts
        if kind is type(None):
            return None
        return kind._make(parts.values()) if hasattr(kind, "_make") else kind(parts.values())

    def leaves_of(self, tree, name: str) -> list:
        """The leaves of another container of this form; None may stand for a leaf.

        Raises `UsageError` that says, after `name`, which part differs.
        """
        kind, parts = _opened(tree, True)
        if self.kind is None and (kind is None or tree is None):
            return [tree]
        same = kind is self.kind or (_is_named(kind) and _is_named(self.kind))
        same |= _is_tuple(kind) and _is_tuple(self.kind)  # a plain tuple may stand for a named one
        if not same or parts.keys() != self.parts.keys():
            raise UsageError(
                f"{name}: its form",
                f"expected {_described(self.kind, self.parts)}, got {_described(kind, parts)}",
                "nest tuples, lists and dicts like those that it belongs to",
            )
        found = [form.leaves_of(parts[k], f"{name}[{k!r}]") for k, form in self.parts.items()]
        return [leaf for leaves in found for leaf in leaves]


_LEAF = Form(None, {})


def _is_named(kind: type | None) -> bool:
    return kind is dict or kind in _registered


def _is_tuple(kind: type | None) -> bool:
    return kind is not None and issubclass(kind, tuple)


def _described(kind: type | None, parts: Mapping) -> str:
    if kind is None or kind is type(None):
        return "one array" if kind is None else "None"
    inside = ", ".join(builtins.map(repr, parts)) if _is_named(kind) else f"{len(parts)} part(s)"
    return f"{kind.__name__} of {inside or 'nothing'}"


def _opened(x, objects: bool) -> tuple[type | None, Mapping]:
    """The kind of a container, and its parts by key; None for a leaf."""
    if isinstance(x, tuple | list):
        plain = tuple if isinstance(x, tuple) else list
        return type(x) if hasattr(x, "_make") else plain, dict(enumerate(x))
    if isinstance(x, dict):
        return dict, x
    if x is None:
        return type(None), {}
    if objects:
        for kind in type(x).__mro__:
            if kind in _registered:
                return kind, _registered[kind][0](x)
    return None, {}


def flatten(tree, objects: bool = True) -> tuple[list, Form]:
    """The leaves of a container, in order, and its form.

    Without `objects`, registered objects are leaves.

    >>> leaves, form = mg.tree.flatten({"w": 1.0, "rest": (2.0, [3.0])})
    >>> leaves
    [1.0, 2.0, 3.0]
    >>> form.build("abc")
    {'w': 'a', 'rest': ('b', ['c'])}
    """
    leaves: list = []
    return leaves, _form(tree, leaves, objects)


def _form(x, leaves: list, objects: bool) -> Form:
    """The form of a container, whose leaves go to the end of `leaves`."""
    kind, parts = _opened(x, objects)
    if kind is None:
        leaves.append(x)
        return _LEAF
    forms = {key: _form(part, leaves, objects) for key, part in parts.items()}
    return Form(kind, forms, x if kind in _registered else None)


def map(function: Callable, tree, *rest) -> Any:
    """`function` of each leaf, or of the leaves in the same place of several containers.

    The result has the form of the first; in the others, None may stand for a leaf. Raises
    `UsageError` where forms differ.

    >>> weights, slopes = {"w": 1.0, "b": [2.0]}, {"w": 0.5, "b": [4.0]}
    >>> mg.tree.map(lambda p, g: p - 0.5 * g, weights, slopes)
    {'w': 0.75, 'b': [0.0]}
    """
    leaves, form = flatten(tree)
    others = [form.leaves_of(t, f"tree.map: argument {i}") for i, t in enumerate(rest, 1)]
    return form.build(builtins.map(function, leaves, *others))
