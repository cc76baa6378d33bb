"""Popularity over Spark: the number of users who chose an item, in all and in each of the larger segments."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, ITEM_IDX, SEGMENT, USER_IDX
from recsys_spark.models.popularity import PopularityModel, smooth_shares
from recsys_spark.stages.baselines.fit_context import FitContext

log = logging.getLogger(__name__)

MAX_SEGMENTS = 50
"""Maximum number of segments. The largest are kept. Users of others get the popularity among all users."""
_COUNT = "chosen"
_DAY_S = 86_400


def fit(context: FitContext, scratch: Path) -> tuple[PopularityModel, dict[str, Any]]:
    """Fit the model of the registry entry `popularity`."""
    half_life = context.settings.half_life_days
    model = fit_events(context.events, context.users, n_items=context.n_items, half_life_days=half_life)
    return model, {"segments": len(model.parameters["segments"])}


def fit_events(
    events: DataFrame, users: DataFrame | None, *, n_items: int, half_life_days: float | None
) -> PopularityModel:
    """Return the model of `events` (user_idx, item_idx, event_ts), each pair once, by the segments of `users`.

    A pair counts 1, or 2^(-age / half life). Its age counts from the newest pair, so a backtest does not depend on the
    day it runs. `models/popularity.py` smooths the segments' shares. The driver collects at most items × segments.
    """
    chosen = events.select(USER_IDX, ITEM_IDX, _decay(events, half_life_days).alias(_COUNT))
    if users is None:
        segmented = chosen.withColumn(SEGMENT, F.lit(None).cast("string"))
    else:
        segmented = chosen.join(users.select(USER_IDX, SEGMENT), USER_IDX, "left")
    sums = segmented.groupBy(SEGMENT, ITEM_IDX).agg(F.sum(_COUNT).alias(_COUNT))
    segments = [] if users is None else _largest_segments(sums.persist())
    counts = _collect(sums, segments, n_items)
    sums.unpersist()
    log.info("popularity: %d items, %d segments", np.count_nonzero(counts[0]), len(segments))
    return PopularityModel(n_items, {"segments": segments}, {"scores": smooth_shares(counts)})


def _decay(events: DataFrame, half_life_days: float | None) -> Column:
    if half_life_days is None:
        return F.lit(1.0)
    newest = events.agg(F.max(F.unix_micros(EVENT_TS))).first()[0] or 0
    age_days = (F.lit(newest) - F.unix_micros(EVENT_TS)) / (_DAY_S * 1e6)
    return F.pow(F.lit(2.0), -age_days / half_life_days)


def _largest_segments(sums: DataFrame) -> list[str]:
    """Return the names of the segments with the most choices, falling, ties by name."""
    sizes = sums.where(F.col(SEGMENT).isNotNull()).groupBy(SEGMENT).agg(F.sum(_COUNT).alias(_COUNT))
    return [row[SEGMENT] for row in sizes.orderBy(F.desc(_COUNT), SEGMENT).limit(MAX_SEGMENTS).collect()]


def _collect(sums: DataFrame, segments: list[str], n_items: int) -> np.ndarray:
    """Return float64 [S+1, I], the sums of all users and of each of `segments`."""
    kept = F.when(F.col(SEGMENT).isin(segments), F.col(SEGMENT)) if segments else F.lit(None).cast("string")
    table = sums.groupBy(kept.alias(SEGMENT), ITEM_IDX).agg(F.sum(_COUNT).alias(_COUNT)).toArrow()
    row_of = {segment: row for row, segment in enumerate(segments, start=1)}
    rows = np.array([row_of.get(segment, 0) for segment in table[SEGMENT].to_pylist()], np.int64)
    counts = np.zeros((len(segments) + 1, n_items))
    counts[rows, table[ITEM_IDX].to_numpy()] = table[_COUNT].to_numpy()
    counts[0] = counts.sum(axis=0)  # row 0 held the users of other segments
    return counts
