"""Arguments for every op of the registry, with what NumPy says it should give: a file a family."""

from . import activations, elementwise, index, linear, logic, reduce, shape

FAMILIES = (elementwise, activations, logic, reduce, shape, index, linear)
SAMPLES = {name: samples for family in FAMILIES for name, samples in family.SAMPLES.items()}

# The same functions for complex arguments, where NumPy has them for real ones alone.
ANALYTIC = elementwise.ANALYTIC
