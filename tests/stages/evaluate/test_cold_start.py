"""Cold-start metrics against plain loops over the same lists, and the random order against all orders."""

import itertools
import json
import math

import numpy as np
import pytest

from factories import finish_stage, make_context
from recsys_spark.metrics.ranking import hit_matrix, user_metrics
from recsys_spark.stages.evaluate import cold_start, stage

K = 2
SECTIONS = {
    "score": {"top_n": 3, "candidates": 3},
    "evaluate": {"cutoffs": [2, 3], "gate_k": K, "bootstrap_samples": 200},
    "baselines": {"models": ["popularity", "content"]},
    "train": {"enabled": False},
    "paths": {"items": "items.csv"},
}
# of items 1 to 9, the cold ones are 7, 8 and 9; users 10 to 13 are cold; user 3 has a cold positive and no list
USER_LISTS = {
    "fused": {10: [1, 2, 3], 11: [4, 5, 6], 12: [1, 2, 3]},
    "popularity": {10: [1, 2, 3], 11: [1, 2, 3], 12: [2, 1, 3]},
}
USER_POSITIVES = {10: [2, 5, 9], 11: [4, 5], 12: [2], 13: [1]}
# content has no list for user 2
ITEM_LISTS = {"content": {0: [8, 7], 1: [9, 7, 8]}, "fused": {0: [7, 8, 9], 1: [7, 9, 8], 2: [7, 8, 9]}}
ITEM_POSITIVES = {0: [8], 1: [7, 9], 2: [9], 3: [9]}
# one of the first two places of the two fused lists, four in all, is a cold item; popularity does not count
LISTS = {"fused": {0: [1, 7, 8], 1: [2, 3, 9]}, "popularity": {0: [7, 8, 9], 1: [7, 8, 9]}}


def rows(lists):
    return [
        {"user_idx": u, "model": m, "rank": rank, "item_idx": i, "score": 1 / rank, "source": m}
        for m, own in lists.items() for u, items in own.items() for rank, i in enumerate(items, 1)
    ]  # fmt: skip


def put_run(context, user_lists=USER_LISTS, item_lists=ITEM_LISTS):
    items = [{"item_idx": i, "item_id": f"i{i}", "categories": [], "withdrawn": False} for i in range(1, 10)]
    finish_stage(context, "clean", None, {"items": ("items", items)})
    held = {"test": {0: [1], 1: [9]}, "cold_user": USER_POSITIVES, "cold_item": ITEM_POSITIVES}
    positives = [
        {"user_idx": u, "item_idx": own, "as_of": as_of} for as_of, of in held.items() for u, own in of.items()
    ]
    histories = [
        {"user_idx": u, "item_idx": own, "event_ts": own, "weight": [1.0] * len(own), "as_of": "test"}
        for u in (*range(4), *range(10, 14)) for own in [[4, 5] if u < 10 else []]
    ]  # fmt: skip
    tables = {"histories": ("histories", histories), "positives": ("positives", positives)}
    counts = {"item_counts": ("item_counts", [{"item_idx": i, "count": 2} for i in range(1, 7)])}
    finish_stage(context, "features", "backtest", {**tables, **counts}, users_with_history=4)
    lists = {"lists": LISTS, "cold_user": user_lists, "cold_item": item_lists}
    written = {name: ("candidates", rows(own)) for name, own in lists.items() if own is not None}
    finish_stage(context, "score", "backtest", written)
    return context


def metrics(context):
    stage.run(context, "backtest")
    return json.loads(context.layout.table("evaluate", "backtest", "metrics.json").read_text())


@pytest.fixture(scope="module")
def measured(spark, tmp_path_factory):
    return metrics(put_run(make_context(tmp_path_factory.mktemp("cold"), spark, **SECTIONS)))


def ndcg(own, positives):
    gain = sum(1 / math.log2(1 + rank) for rank, item in enumerate(own[:K], 1) if item in positives)
    return gain / sum(1 / math.log2(1 + rank) for rank in range(1, min(K, len(positives)) + 1))


def recall(own, positives):
    return len(set(own[:K]) & set(positives)) / len(positives)


def naive(metric, lists, positives, users):
    return [metric(lists.get(user, []), positives[user]) for user in users]


def test_cold_start_users(measured):
    found, users = measured["cold_start"]["users"], (10, 11, 12)
    assert found["users"] == len(users)
    values = {name: naive(ndcg, own, USER_POSITIVES, users) for name, own in USER_LISTS.items()}
    for name, own in USER_LISTS.items():
        assert found["lists"][name]["ndcg"]["mean"] == pytest.approx(np.mean(values[name]), abs=1e-7)
        expected = np.mean(naive(recall, own, USER_POSITIVES, users))
        assert found["lists"][name]["recall"]["mean"] == pytest.approx(expected, abs=1e-7)
    gaps = np.subtract(values["fused"], values["popularity"])
    gap = found["difference"]["ndcg"]
    assert gap["mean"] == pytest.approx(gaps.mean(), abs=1e-7)
    assert gaps.min() - 1e-7 <= gap["low"] < gap["mean"] < gap["high"] <= gaps.max() + 1e-7
    # the share of the 27 resamples of three users that have a mean above 0
    above = np.mean([sum(some) > 1e-9 for some in itertools.product(gaps, repeat=3)])
    assert gap["share_above"] == pytest.approx(above, abs=0.12)


def test_cold_start_items(measured):
    found, users = measured["cold_start"]["items"], (0, 1, 2)
    assert (found["users"], found["items"], found["catalogue"]) == (len(users), 3, 9)
    assert list(found["models"]) == ["content", "fused"]
    for name, own in ITEM_LISTS.items():
        for metric, of in (("recall", recall), ("ndcg", ndcg)):
            expected = np.mean(naive(of, own, ITEM_POSITIVES, users))
            interval = found["models"][name][metric]
            assert interval["mean"] == pytest.approx(expected, abs=1e-7)
            assert interval["low"] <= interval["mean"] <= interval["high"]
    assert found["share_of_places"] == pytest.approx(1 / 4)
    discounts = 1 + 1 / math.log2(3)
    assert found["random"]["recall"] == pytest.approx(2 / 3)
    one, two = 1 / 3 * discounts, 2 / 3 * discounts / discounts
    assert found["random"]["ndcg"] == pytest.approx((one + two + one) / 3)


def test_cold_start_lists_do_not_change_other_metrics(measured, spark, tmp_path):
    without = metrics(put_run(make_context(tmp_path, spark, **SECTIONS), None, None))
    assert "cold_start" not in without
    assert without == {name: value for name, value in measured.items() if name != "cold_start"}


def test_tables_without_lists_are_not_measured(spark, tmp_path):
    """A small share may round to no user."""
    assert "cold_start" not in metrics(put_run(make_context(tmp_path, spark, **SECTIONS), {}, {}))


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_the_random_order_is_the_mean_over_all_orders(k):
    n_items, n_positives = 5, [1, 2, 4]
    orders = np.array(list(itertools.permutations(range(1, n_items + 1))), np.int32)
    lists = np.zeros((len(orders), 1, max(k, n_items)), np.int32)
    lists[:, 0, :n_items] = orders
    found = {"recall": [], "ndcg": []}
    for n in n_positives:
        hits = hit_matrix(lists, np.arange(len(orders) + 1) * n, np.tile(np.arange(1, n + 1), len(orders)))
        values = user_metrics(hits, np.full(len(orders), n), k)
        for name, means in found.items():
            means.append(values[name].mean())
    expected = cold_start.random_order(np.array(n_positives), n_items, k)
    assert expected == pytest.approx({name: np.mean(means) for name, means in found.items()})
