"""`python -m benchmarks`: the recurrence benchmark."""

import sys

from .recurrent import main

sys.exit(main())
