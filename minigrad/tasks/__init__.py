"""The jobs of `python -m minigrad train`, one module each."""
