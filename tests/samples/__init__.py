"""Arguments for every op of the registry, with what NumPy says it should give: a file a family."""

from . import elementwise, linear, reduce, shape

FAMILIES = (elementwise, reduce, shape, linear)
SAMPLES = {name: samples for family in FAMILIES for name, samples in family.SAMPLES.items()}
