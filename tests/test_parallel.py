"""Independent work at once: results in their order, faults after everybody has ended."""

import threading

import pytest

from recsys_spark.parallel import together


def test_works_run_at_once_and_answer_in_their_order():
    both = threading.Barrier(2, timeout=30)  # who came alone would wait for ever
    assert together(lambda: (both.wait(), "a")[1], lambda: (both.wait(), "b")[1]) == ["a", "b"]


def test_the_first_fault_of_their_order_is_raised_when_all_have_ended():
    ended, later = [], threading.Event()

    def first():
        later.wait(30)
        ended.append("first")
        raise ValueError("first")

    def second():
        later.set()
        raise KeyError("second")

    with pytest.raises(ValueError, match="first"):
        together(first, second, lambda: ended.append("third"))
    assert sorted(ended) == ["first", "third"]
