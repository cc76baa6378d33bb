"""Hold out the last items of each user.

A pair (user, item) stands where its first event stands. Per user, pairs are ordered by (first event, item_idx); the last `test_n` are test, the
`valid_n` before them valid, the rest train. A user who would be left with fewer than `min_train` train pairs is all train.

Example, with valid_n = test_n = 1 and min_train = 2:

>>> events = [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("ann", "d", 4), ("ann", "a", 3), ("ann", "b", 9), ("ann", "c", 5),
...           ("bob", "a", 1), ("bob", "b", 2), ("bob", "c", 3)]
>>> folds, repeats = example(events, valid_n=1, test_n=1, min_train=2)
>>> for pair, (fold, known) in folds.items():
...     print(*pair, fold, known)
ann a train 2
ann b train 1
ann c valid 1
ann d test 1
bob a train 1
bob b train 1
bob c train 1

ann's c begins at 3, so train knows her events up to and at 3: a twice, but not b's repeat at 9. Valid knows her events up to where test begins, at
4, and not c's repeat at 5. bob has three items; with two held out one would be left, so he is all train.

>>> repeats
2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT


def split(interactions: DataFrame, *, valid_n: int, test_n: int, min_train: int) -> DataFrame:
    """The table `folds` of `interactions`. Key: user_idx, item_idx."""
    pair, user = Window.partitionBy(USER_IDX, ITEM_IDX), Window.partitionBy(USER_IDX)
    # one exchange by user serves the windows over pairs as well
    events = interactions.repartition(USER_IDX).withColumn("__first", F.min(EVENT_TS).over(pair))
    # dense_rank gives all events of a pair one place, counted from the user's newest pair
    events = events.withColumn(
        "__place", F.dense_rank().over(user.orderBy(F.desc("__first"), F.desc(ITEM_IDX)))
    )
    all_train = F.max("__place").over(user) < valid_n + test_n + min_train
    fold = (
        F.when(all_train, F.lit(TRAIN))
        .when(F.col("__place") <= test_n, F.lit(TEST))
        .when(F.col("__place") <= test_n + valid_n, F.lit(VALID))
        .otherwise(F.lit(TRAIN))
    )
    events = events.withColumn(FOLD, fold)
    begins = {name: F.min(F.when(F.col(FOLD) == name, F.col("__first"))).over(user) for name in (VALID, TEST)}
    horizon = F.when(F.col(FOLD) == TRAIN, begins[VALID]).when(F.col(FOLD) == VALID, begins[TEST])
    known = F.coalesce(F.col(EVENT_TS) <= horizon, F.lit(True))
    weighed = events.withColumn("__known", F.when(known, F.col(WEIGHT)))
    return weighed.groupBy(USER_IDX, ITEM_IDX, FOLD).agg(
        F.min("__first").alias(EVENT_TS), F.sum("__known").cast("float").alias(WEIGHT)
    )


def example(
    events: Sequence[tuple[str, str, int]], *, valid_n: int, test_n: int, min_train: int
) -> tuple[dict[tuple[str, str], tuple[str, int]], int]:
    """The rule in plain Python, for the example above and as the tests' oracle: the fold and the number of known events of each pair of
    (user, item, time) events, and the number of events that are dropped."""
    first: dict[tuple[str, str], int] = {}
    for user, item, time in events:
        first[user, item] = min(time, first.get((user, item), time))
    fold: dict[tuple[str, str], str] = {}
    horizon: dict[tuple[str, str], int] = {}
    for user in {user for user, _ in first}:
        pairs = sorted((pair for pair in first if pair[0] == user), key=lambda pair: (first[pair], pair[1]))
        train = len(pairs) - valid_n - test_n
        names = (
            [TRAIN] * train + [VALID] * valid_n + [TEST] * test_n
            if train >= min_train
            else [TRAIN] * len(pairs)
        )
        fold |= dict(zip(pairs, names))
        if train >= min_train:
            horizon |= {(user, TRAIN): first[pairs[train]], (user, VALID): first[pairs[train + valid_n]]}
    known: Counter[tuple[str, str]] = Counter()
    for user, item, time in events:
        known[user, item] += time <= horizon.get((user, fold[user, item]), time)
    folds = {pair: (fold[pair], known[pair]) for pair in sorted(first)}
    return folds, len(events) - known.total()
