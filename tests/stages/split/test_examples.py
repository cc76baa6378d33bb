"""The worked examples of the module docstrings are true, and share_of rounds as it says."""

import doctest

import pytest

from recsys_spark.stages.split import last_n, temporal


@pytest.mark.parametrize("module", [last_n, temporal])
def test_worked_example(module):
    result = doctest.testmod(module)
    assert result.attempted >= 4
    assert result.failed == 0
