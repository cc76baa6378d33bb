"""The score stage: candidates of every model, fused lists, and the top N of every user.

Backtest: choose the fusion on the validation set, then make every model's lists and the fused ones for test users.
Writes fusion.json, ranker.txt (if a ranker is selected), lists/ and the tables of backtest_lists.py.
Release: make the fused lists of all users with that fusion. Writes top_n/.
Both write blocked.json, the ids in score.blocked_items at that time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_spark import columns as c
from recsys_spark import registry
from recsys_spark.errors import StageMissing
from recsys_spark.fusion.model_selection import select_fusion
from recsys_spark.fusion.sample import HELD_OUT, Sample
from recsys_spark.hashing import digest
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.parallel import run_parallel
from recsys_spark.rules.banned_items import read_blocked
from recsys_spark.stages.score.all_users import count_exhausted, sample_candidates, score_users, seconds_by_model
from recsys_spark.stages.score.score_context import NAME, ScoreContext
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.pipeline.context import Context
    from recsys_spark.stages.score.lists import ListRequest

PASSES = (c.BACKTEST, c.RELEASE)
FUSION_FILE = "fusion.json"
SELECTED_BY = ("gate_k", "bootstrap_samples", "confidence", "seed")
"""Keys of `evaluate` that decide which fusion is selected."""
# keys of `score` that divide the work and change no list
_EXECUTION_ONLY = {"user_batch", "item_tile", "partitions"}

log = logging.getLogger(__name__)


def run(context: Context, pass_name: str) -> None:
    """Run one pass. It reads the models and histories of that pass; the release also reads the backtest's fusion."""
    names = context.models(pass_name)
    read = [("clean", None), ("baselines", pass_name), ("features", pass_name)]
    if c.NETWORK in names:
        read.append(("train", pass_name))
    if pass_name == c.RELEASE:
        read.append((NAME, c.BACKTEST))
    blocked = read_blocked(context.config.score.blocked_items)
    of_pass = {
        c.BACKTEST: {name: getattr(context.config.evaluate, name) for name in SELECTED_BY},
        c.RELEASE: {c.RUN_DATE: context.run_date.isoformat()},
    }
    settings = {
        "score": context.config.score.model_dump(mode="json", exclude=_EXECUTION_ONLY),
        "models": names,
        "blocked": digest(sorted(set(blocked))),
        **of_pass[pass_name],
    }
    work = {c.BACKTEST: _backtest, c.RELEASE: _release}[pass_name]
    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs=manifest.output_ids(context.layout, read),
        settings=settings,
        work=lambda folder: work(ScoreContext.of(context, pass_name, names, blocked, folder)),
        force=context.force,
    )


def choose_fusion(context: Context) -> dict[str, Any]:
    """Return the content of fusion.json for the backtest's models. Makes no list and reads nothing of the test fold."""
    folder = context.layout.stage(NAME, c.BACKTEST)
    folder.mkdir(parents=True, exist_ok=True)
    blocked = read_blocked(context.config.score.blocked_items)
    return _choose_fusion(ScoreContext.of(context, c.BACKTEST, context.models(c.BACKTEST), blocked, folder))


def _backtest(score: ScoreContext) -> dict[str, Any]:
    from recsys_spark.stages.score import backtest_lists

    fusion_json = _choose_fusion(score)
    manifest.write_json(score.folder / FUSION_FILE, fusion_json)
    request = score.request(fusion_json)
    test_users = score.table("positives", c.TEST).select(c.USER_IDX)
    histories = score.table("histories", c.TEST).join(test_users, c.USER_IDX, "left_semi")
    lists, counts = _observed_lists(score, histories, request)
    rows, *_ = run_parallel(
        lambda: tables.write(lists, score.folder / "lists", "candidates"),
        lambda: backtest_lists.write_cold_users(score, request),
        lambda: backtest_lists.write_cold_items(score, request),
        lambda: backtest_lists.write_diversity_tradeoff(score, histories, request),
    )
    dropped = [entry[c.MODEL] for entry in fusion_json[c.DROPPED]]
    version = score.version(request.fusion)
    return {"rows": rows, **counts(), **score.counts, c.DROPPED: dropped, c.MODEL_VERSION: version}


def _choose_fusion(score: ScoreContext) -> dict[str, Any]:
    """Return the content of fusion.json, chosen on validation users with a history; writes the selected ranker.

    Only this sample comes to the driver. With seven models of 200 candidates a user takes about 30 kB, and up to 200 kB
    while models are dropped or a ranker is fitted.
    """
    from pyspark.sql import functions as F

    from recsys_spark.stages.score.backtest_lists import by_hash

    config = score.context.config
    held_out = score.table("positives", c.VALID).select(c.USER_IDX, F.col(c.ITEM_IDX).alias(HELD_OUT))
    eligible = score.table("histories", c.VALID).where(F.size(c.ITEM_IDX) > 0).join(held_out, c.USER_IDX)
    rows = sample_candidates(by_hash(eligible, config.score.fusion_users), score.plan, score.search).toArrow()
    popularity = registry.load(score.models[c.POPULARITY])
    sample = Sample.of(rows, list(score.models), popularity, score.categories, config.score.candidates)
    k, confidence = config.evaluate.gate_k, config.evaluate.confidence
    selected = select_fusion(
        sample,
        k=k,
        length=config.score.top_n,
        fusion=config.score.fusion,
        drop=config.score.drop,
        bootstrap=Bootstrap(config.evaluate.bootstrap_samples, confidence, config.evaluate.seed),
    )
    if selected.ranker:
        score.ranker_file.write_text(selected.ranker, encoding="utf-8")
    result = selected.as_json()
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in result["weights"].items())
    log.info("backtest score: the %s is selected, %s with weights %s", result["selected"], result["method"], weights)
    return {**result, "k": k, "users": sample.n_users, "confidence": confidence}


def _release(score: ScoreContext) -> dict[str, Any]:
    from pyspark.sql import functions as F

    request = score.request(_read_fusion(score))
    version = score.version(request.fusion)
    context = score.context
    users, items = (tables.read(context.spark, context.layout.clean_table(name), name) for name in ("users", "items"))
    lists, counts = _observed_lists(score, score.table("histories", c.RELEASE), request)
    because = items.select(F.col(c.ITEM_IDX).alias(c.BECAUSE), F.col(c.ITEM_ID).alias("because_id"))
    top = (
        lists.join(users.select(c.USER_IDX, c.USER_ID), c.USER_IDX)
        .join(items.select(c.ITEM_IDX, c.ITEM_ID), c.ITEM_IDX)
        .join(because, c.BECAUSE, "left")
        .withColumns(
            {
                c.BECAUSE: F.col("because_id"),
                c.RUN_DATE: F.lit(context.run_date),
                c.RUN_ID: F.lit(context.layout.run_id),
                c.MODEL_VERSION: F.lit(version),
            }
        )
    )
    rows = tables.write(top, score.folder / "top_n", "top_n")
    return {"rows": rows, **counts(), **score.counts, c.MODEL_VERSION: version}


def _read_fusion(score: ScoreContext) -> dict[str, Any]:
    path: Path = score.context.layout.table(NAME, c.BACKTEST, FUSION_FILE)
    fusion_json = dict(json.loads(path.read_text(encoding="utf-8")))
    if "selected" not in fusion_json:
        raise StageMissing(f"{path}: written by another version. Run jobs/score.py again for both passes")
    if set(fusion_json["weights"]) != set(score.models):
        raise StageMissing(
            f"{path}: the weights are of {', '.join(fusion_json['weights'])}, but the models are "
            f"{', '.join(score.models)}. Run jobs/score.py again for both passes"
        )
    return fusion_json


def _observed_lists(
    score: ScoreContext, histories: DataFrame, request: ListRequest
) -> tuple[DataFrame, Callable[[], dict[str, Any]]]:
    """Return the lists of `histories`, and a function for the manifest's counts, to call once the lists are written.

    The counts are users by outcome, and the seconds that each model took, added up over all tasks.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    inputs, outputs = Observation("histories"), Observation("lists")
    seconds = seconds_by_model(score.context.spark.sparkContext)
    no_history = F.count_if(F.size(c.ITEM_IDX) == 0)
    users = histories.observe(inputs, F.count(F.lit(1)).alias("users"), no_history.alias("without_history"))
    served = F.count_if((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) == 1))
    lists = score_users(users, score.plan, score.search, request, seconds).observe(outputs, served.alias("served"))

    def counts() -> dict[str, Any]:
        n_users, n_served = inputs.get["users"], outputs.get["served"]
        counts = {"users": n_served, "users_total": n_users, "users_without_history": inputs.get["without_history"]}
        counts["seconds"] = {name: round(value, 3) for name, value in seconds.value.items()}
        if n_served < n_users:
            counts["users_exhausted"] = count_exhausted(histories, score.banned)
            log.warning(
                "score: %d of %d users have no list. %d of them have every item that may be recommended",
                n_users - n_served,
                n_users,
                counts["users_exhausted"],
            )
        return counts

    return lists, counts
