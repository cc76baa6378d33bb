"""Lists of samples of users, which only the backtest makes: cold users, cold items, and the diversity trade-off.

The evaluate stage compares them with the held-out items. All are tables `candidates` in the folder of the stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.stages.score.all_users import score_users
from recsys_spark.storage import tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.stages.score.lists import ListRequest
    from recsys_spark.stages.score.score_context import ScoreContext

COLD_START_USERS = 5000
"""Maximum number of users in the lists of cold users, and in those of cold items."""
TRADEOFF_DIVERSITIES, TRADEOFF_CAPS, TRADEOFF_USERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (1, 2, 3, 5, 10), 2000
"""Values that the trade-off tries beside the configured ones (and no cap), and the maximum number of users."""


def by_hash(users: DataFrame, limit: int) -> DataFrame:
    """Return `limit` users at most, those with the lowest hashes of user_idx."""
    return users.orderBy(F.xxhash64(c.USER_IDX), c.USER_IDX).limit(limit)


def write_cold_users(score: ScoreContext, request: ListRequest) -> None:
    """Write two lists of each cold user: `fused` as the release would serve it, `popularity` without the segment."""
    if not score.context.config.split.cold_user_share:
        return
    users = score.table("positives", c.COLD_USER).select(c.USER_IDX)
    sample = by_hash(score.table("histories", c.TEST).join(users, c.USER_IDX, "left_semi"), COLD_START_USERS)
    without_segment = sample.withColumn(c.SEGMENT, F.lit(None).cast("string"))
    request = replace(request, each_model=False)
    served, popular = (score_users(rows, score.plan, score.search, request) for rows in (sample, without_segment))
    lists = served.unionByName(popular.withColumn(c.MODEL, F.lit(c.POPULARITY)))
    tables.write(lists, score.folder / c.COLD_USER, "candidates")


def write_cold_items(score: ScoreContext, request: ListRequest) -> None:
    """Write lists of cold items alone, by the models that can rank them and by the fusion.

    They show whether a cold item finds its users. How often it appears among all items shows in the ordinary lists.
    """
    models = score.new_item_models
    if not (score.context.config.split.cold_item_share and models):
        return
    held_out, histories = score.table("positives", c.COLD_ITEM), score.table("histories", c.TEST)
    banned = np.ones_like(score.banned)
    banned[np.asarray(held_out.select(F.explode(c.ITEM_IDX)).distinct().toArrow()[0], np.int64)] = False
    warm = histories.where(F.size(c.ITEM_IDX) > 0).join(held_out, c.USER_IDX, "left_semi")
    search, request = replace(score.search, banned=banned), replace(request, each_model=True, diversifications=())
    lists = score_users(by_hash(warm, COLD_START_USERS), score.plan, search, request)
    tables.write(lists.where(F.col(c.MODEL).isin(*models, c.FUSED)), score.folder / c.COLD_ITEM, "candidates")


def write_diversity_tradeoff(score: ScoreContext, histories: DataFrame, request: ListRequest) -> None:
    """Write fused lists with several values of diversity and of the maximum per category, changing one at a time."""
    configured = score.diversification
    if not configured:
        return
    diversity, cap, steps = configured.diversity, configured.max_per_category, []
    if diversity:
        steps += [(value, cap) for value in sorted({*TRADEOFF_DIVERSITIES, diversity})]
    if cap is not None:
        caps = sorted({*(value for value in TRADEOFF_CAPS if value < request.length), cap})
        steps += [(diversity, value) for value in (None, *caps)]
    settings = [replace(configured, diversity=d, max_per_category=m) for d, m in dict.fromkeys(steps)]
    request = replace(request, each_model=False, diversifications=settings)
    lists = score_users(by_hash(histories, TRADEOFF_USERS), score.plan, score.search, request)
    tables.write(lists, score.folder / c.DIVERSITY_TRADEOFF, "candidates")
