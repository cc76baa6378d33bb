"""Popularity of histories and lists in Spark: blockbusters for everyone, and lists that resemble the histories."""

import numpy as np
import pytest

from factories import put_table
from recsys_spark.metrics.popularity_bias import lift
from recsys_spark.stages.evaluate import per_user, popularity_groups
from recsys_spark.storage import tables as store

# items 1 and 2 have 1,000 users each, items 3 to 10 have 10
POPULARITY = np.array([0, 1000, 1000, *[10] * 8])
NICHE, MAINSTREAM, NEW = range(0, 20), range(20, 40), range(40, 42)
HAD = {u: [5, 3, 4] if u in NICHE else [2, 1, 3] if u in MAINSTREAM else [] for u in range(42)}
UNKNOWN = 50
"""A user with positives, but without history and list."""


def tables(spark, folder, lists):
    candidates = [
        {"user_idx": u, "model": m, "rank": rank, "item_idx": i, "score": 1.0, "source": "als"}
        for m, own in lists.items()
        for u, items in own.items()
        for rank, i in enumerate(items, 1)
    ]
    histories = [
        {"user_idx": u, "item_idx": had, "event_ts": [0] * len(had), "weight": [1.0] * len(had), "as_of": "test"}
        for u, had in HAD.items()
    ]  # fmt: skip
    # user 99 has a list and no positives, so is not measured
    positives = [{"user_idx": u, "item_idx": [9], "as_of": "test"} for u in [*HAD, UNKNOWN]]
    put_table(folder / "lists", "candidates", candidates)
    put_table(folder / "histories", "histories", histories)
    put_table(folder / "positives", "positives", positives)
    return [
        store.read(spark, folder / name, table)
        for name, table in (("lists", "candidates"), ("positives", "positives"), ("histories", "histories"))
    ]


def measure(spark, folder, lists, share=1.0):
    found = popularity_groups.measure(*tables(spark, folder, lists), popularity=POPULARITY, k=2, share=share)
    return {row["user_idx"]: row for row in found.to_pylist()}


def lift_of(found, users):
    return float(lift(*(np.mean([found[u][name] for u in users]) for name in ("profile", "listed"))))


def test_blockbusters_for_everyone_lift_the_niche_users_only(spark, tmp_path):
    lists = {
        "fused": {u: [1, 2, 9] for u in [*HAD, 99]},  # the third is beyond k
        "als": {u: [7, 8, 9] for u in HAD},
    }
    found = measure(spark, tmp_path, lists)
    assert set(found) == {*HAD, UNKNOWN}
    assert np.isnan([found[UNKNOWN][name] for name in ("profile", "listed", "popular")]).all()
    assert lift_of(found, NICHE) == pytest.approx((1000 - 10) / 10)
    profile = (1000 + 1000 + 10) / 3
    assert lift_of(found, MAINSTREAM) == pytest.approx((1000 - profile) / profile)
    assert {found[u]["popular"] for u in NICHE} == {0}
    assert {found[u]["popular"] for u in MAINSTREAM} == {2 / 3}
    assert all(np.isnan(found[u]["profile"]) and np.isnan(found[u]["popular"]) for u in NEW)
    assert {found[u]["listed"] for u in NEW} == {1000}


def test_lists_like_the_histories_have_no_lift(spark, tmp_path):
    found = measure(spark, tmp_path, {"fused": {u: [8, 9, 1] for u in NICHE}})
    assert lift_of(found, NICHE) == 0
    assert all(np.isnan(found[u]["listed"]) for u in MAINSTREAM)  # they have no list


def test_the_sample_has_the_same_users_as_the_metrics(spark, tmp_path):
    lists = {"fused": {u: [1, 2] for u in HAD}}
    _, positives, _ = tables(spark, tmp_path / "all", lists)
    found = measure(spark, tmp_path, lists, share=0.4)
    users = {row["user_idx"] for row in per_user.sampled(positives, 0.4).collect()}
    assert set(found) == users and 0 < len(users) < len(HAD)
    whole = measure(spark, tmp_path / "whole", lists)
    assert all(found[u]["listed"] == whole[u]["listed"] == 1000 for u in users - {UNKNOWN})
    assert all(found[u]["profile"] == whole[u]["profile"] for u in users if HAD.get(u))
