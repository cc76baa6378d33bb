"""How newcomers would be served: lists for users, and of items, that the backtest held out whole. The shell in Spark.

Nothing is known of a cold user but the segment. A cold item is offered among its kind alone, since the question is whether the new find the right users;
how often they come up beside all others shows in the ordinary lists.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.stages.score.all_users import Crew, score_users

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from recsys_spark.stages.score.lists import Search, Wanted


def lists_of_users(histories: DataFrame, crew: Crew, search: Search, wanted: Wanted) -> DataFrame:
    """Two lists for each user, as the table `candidates`: `fused` as the release would serve it, `popularity` without the segment.

    `histories` is the table of that name, of users without any.
    """
    wanted = replace(wanted, each=False)
    nobody = histories.withColumn(c.SEGMENT, F.lit(None).cast("string"))
    by_segment, to_all = (score_users(users, crew, search, wanted) for users in (histories, nobody))
    return by_segment.unionByName(to_all.withColumn(c.MODEL, F.lit(c.POPULARITY)))


def lists_of_items(
    histories: DataFrame, crew: Crew, search: Search, wanted: Wanted, items: np.ndarray, able: Sequence[str]
) -> DataFrame:
    """The best of `items` (int [N], none twice; also those that may not be shown) by the models of `able` and by the fused list."""
    banned = np.ones_like(search.banned)
    banned[items] = False
    wanted = replace(wanted, each=True, varieties=())
    lists = score_users(histories, crew, replace(search, banned=banned), wanted)
    return lists.where(F.col(c.MODEL).isin(*able, c.FUSED))
