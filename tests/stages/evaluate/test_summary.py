import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.stages.evaluate import summary
from recsys_spark.stages.evaluate.summary import UserMetrics, finite

MODELS, CUTOFFS = ["popularity", "als", "network", "fused"], [5, 10]
BOOTSTRAP = Bootstrap(samples=200, confidence=0.95, seed=1)


def score(user, model, k):
    """Return another number for each cell; fused equals the network."""
    level = {"popularity": 0.1, "als": 0.3, "network": 0.4, "fused": 0.4}[model]
    return level + user / 100 + k / 1000


def rows(n_users=8):
    cells = [(u, m, k) for u in range(n_users) for m in MODELS for k in CUTOFFS]
    columns = {
        "user_idx": [u for u, _, _ in cells],
        "model": [m for _, m, _ in cells],
        "k": [k for _, _, k in cells],
    }
    columns |= {name: [score(*cell) * (at + 1) for cell in cells] for at, name in enumerate(METRICS)}
    columns |= {
        "history": [10 * u for u, _, _ in cells],
        "segment": ["odd" if u % 2 else None for u, _, _ in cells],
    }
    table = pa.table(columns)
    return table.take(pa.array(np.random.default_rng(0).permutation(len(table))))


def averages(n_users=8):
    found = []
    for m in MODELS:
        for k in CUTOFFS:
            mean = np.mean([score(u, m, k) for u in range(n_users)])
            found.append(
                {
                    "model": m,
                    "k": k,
                    "users": n_users,
                    **{name: mean * (i + 1) for i, name in enumerate(METRICS)},
                }
            )
    return found


@pytest.fixture
def metrics():
    return UserMetrics.of(MODELS, CUTOFFS, averages(), rows())


def test_every_number_is_in_its_cell(metrics):
    for u in range(8):
        for q, k in enumerate(CUTOFFS):
            for m, model in enumerate(MODELS):
                assert metrics.values[u, q, m] == pytest.approx(
                    [score(u, model, k) * (i + 1) for i in range(len(METRICS))]
                )
    assert metrics.history.tolist() == [0, 10, 20, 30, 40, 50, 60, 70]


def test_accuracy_has_the_means(metrics):
    found = summary.accuracy(metrics, BOOTSTRAP)
    ndcg = METRICS.index("ndcg") + 1
    expected = np.mean([score(u, "als", 10) for u in range(8)]) * ndcg
    assert found["als"]["10"]["ndcg"]["mean"] == pytest.approx(expected)
    assert found["als"]["10"]["ndcg"]["low"] < expected < found["als"]["10"]["ndcg"]["high"]


def test_equal_models_differ_by_exactly_zero(metrics):
    (found,) = summary.differences(metrics, [("fused", "network")], 10, BOOTSTRAP)
    assert found["metrics"]["ndcg"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "share_above": 0.0}


def test_a_constant_difference_has_no_width(metrics):
    (found,) = summary.differences(metrics, [("als", "popularity")], 5, BOOTSTRAP)
    lead = (0.3 - 0.1) * (METRICS.index("recall") + 1)
    assert found["metrics"]["recall"] == pytest.approx({"mean": lead, "low": lead, "high": lead, "share_above": 1.0})


def test_comparisons_are_with_the_best_baseline_and_the_best_single_model(metrics):
    expected = [("popularity", "als"), ("network", "als"), ("fused", "als"), ("fused", "network")]
    assert summary.comparisons(metrics, ["popularity", "als"], 10) == expected


def test_means_are_over_all_users_when_the_bootstrap_has_a_sample():
    some = rows().filter(pa.compute.less(rows()["user_idx"], 4))
    metrics = UserMetrics.of(MODELS, CUTOFFS, averages(8), some)
    assert metrics.mean("als", 5, "recall") == pytest.approx(np.mean([score(u, "als", 5) for u in range(8)]))
    assert len(metrics.values) == 4


def test_without_users_the_metrics_are_none():
    metrics = UserMetrics.of(MODELS, CUTOFFS, [], rows().slice(0, 0))
    assert finite(summary.accuracy(metrics, BOOTSTRAP))["als"]["5"]["ndcg"] == {
        "mean": None,
        "low": None,
        "high": None,
    }


def test_finite_rounds_and_has_no_minus_zero():
    assert finite({"a": [-0.0, 0.1 + 0.2, float("nan")], "b": 3}) == {"a": [0.0, 0.3, None], "b": 3}
    assert str(finite(-1e-12)) == "0.0"
