"""Speed, measured side by side in one process. Nothing here is a test: no test asserts a time."""
