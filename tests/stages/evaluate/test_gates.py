import math

import pytest

from recsys_spark.stages.evaluate.gates import ReleaseCounts, judge, verdict

OFF = {
    "max_drop_below_best_baseline": None,
    "min_ndcg": None,
    "min_coverage": None,
    "every_user_served": False,
    "max_size_change": None,
}
COUNTS = ReleaseCounts(rows=200, users=10, unserved=0, last_rows=190)


def metrics(fused=0.30, als=0.29, coverage=0.5):
    ndcg = {"fused": fused, "als": als, "popularity": 0.1}
    return {
        "gate_k": 10,
        "best_baseline": "als",
        "accuracy": {model: {"10": {"ndcg": {"mean": value}}} for model, value in ndcg.items()},
        "beyond_accuracy": {"fused": {"coverage": coverage}},
    }


def only(gate, limit, found=None, counts=COUNTS):
    """Return the result of a single configured gate."""
    (judged,) = judge(found or metrics(), counts, **{**OFF, gate: limit})
    assert judged.gate == gate
    return judged


@pytest.mark.parametrize(
    ("gate", "limit", "found", "passed"),
    [
        ("max_drop_below_best_baseline", 0.0, {"fused": 0.29, "als": 0.29}, True),
        ("max_drop_below_best_baseline", 0.01, {"fused": 0.285, "als": 0.29}, True),
        ("max_drop_below_best_baseline", 0.01, {"fused": 0.27, "als": 0.29}, False),
        ("max_drop_below_best_baseline", 0.01, {"fused": math.nan}, False),
        ("max_drop_below_best_baseline", 0.01, {"fused": None}, False),
        ("max_drop_below_best_baseline", 0.01, {"als": math.nan}, False),
        ("min_ndcg", 0.3, {"fused": 0.3}, True),
        ("min_ndcg", 0.31, {"fused": 0.3}, False),
        ("min_ndcg", 0.0, {"fused": math.nan}, False),
        ("min_coverage", 0.5, {"coverage": 0.5}, True),
        ("min_coverage", 0.6, {"coverage": 0.5}, False),
        ("min_coverage", 0.0, {"coverage": None}, False),
    ],
)
def test_gates_on_metrics(gate, limit, found, passed):
    assert only(gate, limit, metrics(**found)).passed is passed


@pytest.mark.parametrize(
    ("gate", "limit", "counts", "passed"),
    [
        ("every_user_served", True, ReleaseCounts(200, 10, 0, None), True),
        ("every_user_served", True, ReleaseCounts(200, 10, 1, None), False),
        ("every_user_served", True, ReleaseCounts(0, 0, 0, None), False),
        ("every_user_served", True, ReleaseCounts(200, 10, 2, None, exhausted=2), True),
        ("every_user_served", True, ReleaseCounts(200, 10, 3, None, exhausted=2), False),
        ("max_size_change", 0.5, ReleaseCounts(150, 10, 0, 100), True),
        ("max_size_change", 0.5, ReleaseCounts(151, 10, 0, 100), False),
        ("max_size_change", 0.5, ReleaseCounts(49, 10, 0, 100), False),
        ("max_size_change", 0.5, ReleaseCounts(0, 10, 0, 100), False),
        ("max_size_change", 0.0, ReleaseCounts(100, 10, 0, None), True),
    ],
)
def test_gates_on_the_new_table(gate, limit, counts, passed):
    assert only(gate, limit, counts=counts).passed is passed


def test_without_an_earlier_table_the_size_is_not_judged():
    found = only("max_size_change", 0.1, counts=ReleaseCounts(200, 10, 0, None))
    assert found.message == "not judged: 200 rows, and no earlier table to compare with"
    assert found.value is None


def test_a_nan_has_a_message_and_is_none_in_json():
    found = only("min_ndcg", 0.2, metrics(fused=math.nan))
    assert (found.value, found.limit) == (None, 0.2)
    assert found.message == "could not be measured: NDCG@10 of the blend"


def test_messages_have_value_and_limit():
    found = only("max_drop_below_best_baseline", 0.005, metrics(fused=0.28, als=0.29))
    assert (found.value, found.limit) == (0.28, pytest.approx(0.29 - 0.005))
    assert found.message.startswith("0.2800 < 0.2850: NDCG@10 of the blend. The best baseline, als, has 0.2900")
    assert "9 < 10: users with a list" in only("every_user_served", True, counts=ReleaseCounts(9, 10, 1, None)).message


def test_a_gate_that_is_not_configured_is_not_judged():
    assert judge(metrics(fused=math.nan), COUNTS, **OFF) == []
    assert verdict([]) == {"passed": True, "gates": []}


def test_one_failed_gate_fails_the_verdict():
    limits = {**OFF, "min_ndcg": 0.9, "min_coverage": 0.1}
    found = verdict(judge(metrics(), COUNTS, **limits))
    assert found["passed"] is False
    assert [gate["passed"] for gate in found["gates"]] == [False, True]
