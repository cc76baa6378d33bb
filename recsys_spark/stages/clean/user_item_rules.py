"""The rules for whole users and items: bot traffic and the k-core. Also joins the dense ids to the valid rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import DETAIL, EVENT_TYPE, ITEM_ID, ITEM_IDX, REASON, USER_ID, USER_IDX, WEIGHT
from recsys_spark.stages.clean.bot_filter import bot_users
from recsys_spark.stages.clean.checkpointed import checkpointed
from recsys_spark.stages.clean.kcore import outside_core

_BOT, _BELOW_CORE = "__bot", "__below_core"
"""Columns with the detail of a broken rule. The second one is a prefix."""


@dataclass(frozen=True)
class Limits:
    """Limits on the events of a user, None for no limit, and the minimum degrees of the k-core."""

    events_per_user_day: int | None
    events_per_user: int | None
    min_items_per_user: int
    min_users_per_item: int


def apply_user_item_rules(
    rows: DataFrame, users: DataFrame, items: DataFrame, events: DataFrame, limits: Limits
) -> DataFrame:
    """Return the valid `rows` with dense ids, and with a reason where their user or item breaks a rule.

    `users` (user_id, user_idx) and `items` (item_id, item_idx) must hold every id of `rows`. `events` (user_id, n) is
    described in `bot_users`. Runs the jobs of `bot_users` and `outside_core`, and one for each index that gets flags.
    """
    bots = bot_users(rows, events, max_per_day=limits.events_per_user_day, max_total=limits.events_per_user)
    if bots is not None:
        users = _flagged(users, bots.withColumnRenamed(DETAIL, _BOT), USER_ID)
    joined = _joined(rows, users, items)
    if limits.min_items_per_user == limits.min_users_per_item == 1:
        return joined
    pairs = joined.where(F.col(REASON).isNull()).select(USER_IDX, ITEM_IDX).distinct()
    outside = outside_core(pairs, min_items=limits.min_items_per_user, min_users=limits.min_users_per_item)
    details = {
        USER_IDX: f"the user has fewer than {limits.min_items_per_user} items",
        ITEM_IDX: f"the item has fewer than {limits.min_users_per_item} users",
    }
    flags = {
        side: frame.withColumn(f"{_BELOW_CORE}_{side}", F.lit(details[side]))
        for side, frame in outside.items()
        if frame is not None
    }
    return _joined(rows, _flagged(users, flags.get(USER_IDX), USER_IDX), _flagged(items, flags.get(ITEM_IDX), ITEM_IDX))


def interactions_table(rows: DataFrame, weights: Mapping[str, float]) -> DataFrame:
    """Return the table `interactions`: the rows without a reason. `weights` are the weights of the event types."""
    weight = F.coalesce(*[F.when(F.col(EVENT_TYPE) == name, F.lit(value)) for name, value in weights.items()])
    valid = rows.where(F.col(REASON).isNull()).withColumn(WEIGHT, weight.cast("float"))
    return valid.drop(USER_ID, ITEM_ID, DETAIL, REASON)


def _flagged(index: DataFrame, flags: DataFrame | None, key: str) -> DataFrame:
    """Return `index` with the columns of `flags`."""
    return index if flags is None else checkpointed(index.join(flags, key, "left"))[0]


def _joined(rows: DataFrame, users: DataFrame, items: DataFrame) -> DataFrame:
    """Return the valid rows with dense ids, and with REASON and DETAIL from the flags of `users` and `items`."""
    valid = rows.where(F.col(REASON).isNull()).drop(REASON, DETAIL).join(users, USER_ID).join(items, ITEM_ID)
    bot = F.col(_BOT) if _BOT in valid.columns else F.lit(None)
    below_core_columns = [name for name in valid.columns if name.startswith(_BELOW_CORE)]
    below_core = F.coalesce(*map(F.col, below_core_columns)) if below_core_columns else F.lit(None)
    reason = F.when(bot.isNotNull(), F.lit("bot_user")).when(below_core.isNotNull(), F.lit("below_k_core"))
    detail = F.coalesce(bot, below_core)
    marked = valid.withColumns({REASON: reason.cast("string"), DETAIL: detail.cast("string")})
    return marked.drop(_BOT, *below_core_columns)
