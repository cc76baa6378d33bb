import threading

import pytest

from recsys_spark.parallel import run_parallel


def test_functions_run_in_parallel_and_results_keep_their_order():
    both = threading.Barrier(2, timeout=30)  # a function that runs alone would time out
    assert run_parallel(lambda: (both.wait(), "a")[1], lambda: (both.wait(), "b")[1]) == ["a", "b"]


def test_the_first_error_in_order_is_raised_after_all_functions_have_ended():
    ended, later = [], threading.Event()

    def first():
        later.wait(30)
        ended.append("first")
        raise ValueError("first")

    def second():
        later.set()
        raise KeyError("second")

    with pytest.raises(ValueError, match="first"):
        run_parallel(first, second, lambda: ended.append("third"))
    assert sorted(ended) == ["first", "third"]
