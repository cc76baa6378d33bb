"""Verdicts on whole users and items, joined to the well-formed rows together with the dense ids: bots, and who is outside the k-core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TYPE, ITEM_ID, ITEM_IDX, REASON, USER_ID, USER_IDX, WEIGHT
from recsys_spark.stages.clean.bot_filter import bots
from recsys_spark.stages.clean.checkpointed import pinned
from recsys_spark.stages.clean.kcore import outside_core

_BOT, _POOR = "__bot", "__poor"


@dataclass(frozen=True)
class Limits:
    """Thresholds on users and items; None: no limit."""

    per_user_day: int | None
    per_user: int | None
    core_users: int
    core_items: int


def judge(rows: DataFrame, users: DataFrame, items: DataFrame, events: DataFrame, limits: Limits) -> DataFrame:
    """The well-formed of `rows` with their dense ids, and a reason for those that a verdict on their user or item puts out.

    `users` (user_id, user_idx) and `items` (item_id, item_idx) must hold every id of `rows`; `events` is that of `bots`.
    Runs the jobs of `bots` and of the k-core, and one for each index that they flag.
    """
    bad = bots(rows, events, per_day=limits.per_user_day, in_all=limits.per_user)
    if bad is not None:
        users = _flagged(users, bad.withColumnRenamed(DETAIL, _BOT), USER_ID)
    joined = _joined(rows, users, items)
    if limits.core_users == limits.core_items == 1:
        return joined
    pairs = joined.where(F.col(REASON).isNull()).select(USER_IDX, ITEM_IDX).distinct()
    gone = outside_core(pairs, users=limits.core_users, items=limits.core_items)
    few = {
        USER_IDX: f"the user has fewer than {limits.core_users} items",
        ITEM_IDX: f"the item has fewer than {limits.core_items} users",
    }
    poor = {side: found.withColumn(f"{_POOR}_{side}", F.lit(few[side])) for side, found in gone.items() if found}
    return _joined(rows, _flagged(users, poor.get(USER_IDX), USER_IDX), _flagged(items, poor.get(ITEM_IDX), ITEM_IDX))


def interactions(judged: DataFrame, weights: Mapping[str, float]) -> DataFrame:
    """The table `interactions`: the rows without a reason. `weights` of the event types."""
    weight = F.coalesce(*[F.when(F.col(EVENT_TYPE) == name, F.lit(value)) for name, value in weights.items()])
    kept = judged.where(F.col(REASON).isNull()).withColumn(WEIGHT, weight.cast("float"))
    return kept.drop(USER_ID, ITEM_ID, DETAIL, REASON)


def _flagged(index: DataFrame, flags: DataFrame | None, key: str) -> DataFrame:
    """`index` with the columns of `flags`."""
    return index if flags is None else pinned(index.join(flags, key, "left"))[0]


def _joined(rows: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    good = rows.where(F.col(REASON).isNull()).drop(REASON, DETAIL).join(users, USER_ID).join(items, ITEM_ID)
    bot = F.col(_BOT) if _BOT in good.columns else F.lit(None)
    poor = [name for name in good.columns if name.startswith(_POOR)]
    short = F.coalesce(*map(F.col, poor)) if poor else F.lit(None)
    reason = F.when(bot.isNotNull(), F.lit("bot_user")).when(short.isNotNull(), F.lit("below_k_core"))
    return good.withColumns({REASON: reason.cast("string"), DETAIL: F.coalesce(bot, short).cast("string")}).drop(
        _BOT, *poor
    )
