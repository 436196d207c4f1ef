import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import batches, count_batches, trimmed
from minigrad.errors import UsageError

SIZES = st.integers(1, 6).flatmap(
    lambda lanes: st.tuples(st.integers(lanes + 1, 80), st.just(lanes), st.integers(1, 9))
)


@given(SIZES)
def test_every_position_is_a_target_exactly_once(sizes):
    size, lanes, length = sizes
    ids = np.arange(size, dtype=np.int32)
    windows = list(batches(ids, lanes, length))
    assert len(windows) == count_batches(size, lanes, length)
    targets = sorted(np.concatenate([targets.ravel() for _, targets in windows]).tolist())
    assert targets == list(range(1, len(trimmed(ids, lanes))))
    assert 0 <= size - len(trimmed(ids, lanes)) < lanes


@given(SIZES)
def test_a_lane_goes_on_in_the_next_window_and_targets_are_one_ahead(sizes):
    size, lanes, length = sizes
    ids = np.arange(size)
    windows = list(batches(ids, lanes, length))
    for inputs, targets in windows:
        assert inputs.shape == targets.shape == (len(inputs), lanes)
        assert inputs.dtype == targets.dtype == np.int64
        assert inputs.flags.c_contiguous and targets.flags.c_contiguous
        assert (targets == inputs + 1).all()
    whole = np.concatenate([inputs for inputs, _ in windows])
    assert (np.diff(whole, axis=0) == 1).all()
    assert (whole[0] == np.arange(lanes) * len(whole)).all()
    assert all(len(inputs) == length for inputs, _ in windows[:-1])
    assert 1 <= len(windows[-1][0]) <= length


@given(SIZES, st.data())
def test_reading_starts_again_at_any_window(sizes, data):
    size, lanes, length = sizes
    ids = np.arange(size)[::-1].copy()
    windows = list(batches(ids, lanes, length))
    start = data.draw(st.integers(0, len(windows)))
    rest = list(batches(ids, lanes, length, start))
    assert len(rest) == len(windows) - start
    for (inputs, targets), (inputs_again, targets_again) in zip(windows[start:], rest, strict=True):
        assert (inputs == inputs_again).all() and (targets == targets_again).all()


def test_batches_do_not_share_memory_with_the_stream():
    ids = np.arange(5)
    inputs, targets = next(batches(ids, 1, 4))
    inputs[:] = targets[:] = 9
    assert ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.arange(3), 3, 1), "expected at least 4 numbers for 3 lanes, got 3"),
        ((np.arange(9), 0, 1), "expected 1 or more, got 0 and 1"),
        ((np.arange(9), 1, 0), "expected 1 or more, got 1 and 0"),
        ((np.arange(9), 2, 2, 3), r"expected 0 .. 2, got 3"),
        ((np.arange(9), 2, 2, -1), r"expected 0 .. 2, got -1"),
    ],
)
def test_what_is_refused_before_the_first_window(arguments, message):
    with pytest.raises(UsageError, match=message):
        batches(*arguments)
