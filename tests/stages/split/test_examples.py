"""Runs the examples in the module docstrings."""

import doctest

import pytest

from recsys_spark.stages.split import last_n, temporal


@pytest.mark.parametrize("module", [last_n, temporal])
def test_the_examples_in_the_docstring(module):
    result = doctest.testmod(module)
    assert result.attempted >= 4
    assert result.failed == 0
