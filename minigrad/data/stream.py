"""One long sequence read in windows, so that a state can be carried from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UsageError


def batches(
    ids: np.ndarray, batch_size: int, length: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows of a stream cut into `batch_size` contiguous lanes, read side by side.

        inputs[t, n] = lane n at k length + t,   targets[t, n] = the number after it

    Row n of window k + 1 goes on where row n of window k ended: the final state of one is the
    initial state of the next. The last window may be shorter, so that every number of
    `trimmed(ids)` but the first is a target exactly once.

    Args:
        ids: integers of shape (S,).
        batch_size: N, the number of lanes.
        length: T, the steps of a window.
        start: the first window to give; the windows are the same whatever it is.

    Yields:
        inputs and targets, contiguous int64 arrays of shape (T, N).

    Raises:
        UsageError: the stream is too short for the lanes, or a size has no meaning.

    >>> for inputs, targets in batches(np.arange(9), batch_size=2, length=3):
    ...     print(inputs.T.tolist(), targets.T.tolist())
    [[0, 1, 2], [4, 5, 6]] [[1, 2, 3], [5, 6, 7]]
    [[3], [7]] [[4], [8]]
    """
    windows = count_batches(len(ids), batch_size, length)
    if not 0 <= start <= windows:
        raise UsageError(
            "batches: start",
            f"expected 0 .. {windows}, got {start}",
            "begin a new pass over the text with start=0",
        )
    steps = (len(ids) - 1) // batch_size
    inputs = ids[: batch_size * steps].reshape(batch_size, steps)
    targets = ids[1 : batch_size * steps + 1].reshape(batch_size, steps)

    def window(lanes: np.ndarray, k: int) -> np.ndarray:
        return np.array(lanes[:, k * length : (k + 1) * length].T, np.int64, order="C")

    return ((window(inputs, k), window(targets, k)) for k in range(start, windows))


def count_batches(size: int, batch_size: int, length: int) -> int:
    """The number of windows that `batches` gives for a stream of `size` numbers.

        ceil(floor((size - 1) / batch_size) / length)

    Raises:
        UsageError: the stream is too short for the lanes, or a size has no meaning.

    >>> count_batches(9, batch_size=2, length=3)
    2
    """
    if batch_size < 1 or length < 1:
        raise UsageError(
            "batches: batch_size, length",
            f"expected 1 or more, got {batch_size} and {length}",
            "give positive sizes",
        )
    if size <= batch_size:
        raise UsageError(
            "batches: ids",
            f"expected at least {batch_size + 1} numbers for {batch_size} lanes, got {size}",
            "give a longer text or a smaller batch_size",
        )
    return -(-((size - 1) // batch_size) // length)


def trimmed(ids: np.ndarray, batch_size: int) -> np.ndarray:
    """The part of a stream that `batches` reads: the last few numbers fill no lane.

    Two models are compared on `trimmed(ids, batch_size)`, of which each predicts all but the first.

    >>> trimmed(np.arange(10), batch_size=2)
    array([0, 1, 2, 3, 4, 5, 6, 7, 8])
    """
    count_batches(len(ids), batch_size, 1)
    return ids[: (len(ids) - 1) // batch_size * batch_size + 1]
