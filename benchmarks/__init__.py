"""Speed, measured side by side in one process. Nothing here is a test: no test asserts a time."""

import os

# NumPy's own products, in libraries built on it, run on one thread: read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
