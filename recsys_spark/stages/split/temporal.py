"""Holds out the last days of all users.

The boundaries are midnights in UTC, and the periods are half-open: train is before `valid_begins`, valid is
[valid_begins, test_begins), test is [test_begins, end), where `end` is the midnight after the newest event. A pair
belongs to the fold of its first event. Events of the pair in a later period are repeats, which no fold sees. Users and
items may occur in valid or test for the first time.

>>> boundaries(date(2026, 1, 20), valid_days=7, test_days=7)
(datetime.datetime(2026, 1, 7, 0, 0, tzinfo=datetime.timezone.utc), \
datetime.datetime(2026, 1, 14, 0, 0, tzinfo=datetime.timezone.utc))

Test covers 14 to 20 January. An event at the first instant of 14 January is test, one a microsecond earlier is valid.
The same boundaries as day numbers, for events (user, item, day):

>>> events = [("ann", "a", 6.99), ("ann", "a", 8), ("ann", "b", 7), ("ann", "b", 15), ("ann", "c", 13.99)]
>>> events += [("bob", "a", 14), ("bob", "a", 20)]
>>> folds, repeats = reference_split(events, valid_begins=7, test_begins=14)
>>> for pair, (fold, visible_events) in folds.items():
...     print(*pair, fold, visible_events)
ann a train 1
ann b valid 1
ann c valid 1
bob a test 2
>>> repeats
2

The second event of (ann, a) is in the validation period, but its pair is in train. The second event of (ann, b) is in
the test period, but its pair is in valid. Both are repeats. bob is a cold user, because he has nothing in train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT


def boundaries(newest: date, *, valid_days: int, test_days: int) -> tuple[datetime, datetime]:
    """Return when valid begins and when test begins. `newest` is the day (UTC) of the newest event."""
    end = datetime.combine(newest + timedelta(days=1), time(), timezone.utc)
    test_begins = end - timedelta(days=test_days)
    return test_begins - timedelta(days=valid_days), test_begins


def split(interactions: DataFrame, *, valid_begins: datetime, test_begins: datetime) -> DataFrame:
    """Return the table `folds` of `interactions`, key user_idx, item_idx."""
    at = F.col(EVENT_TS)
    visible = {TRAIN: at < F.lit(valid_begins), VALID: at < F.lit(test_begins), TEST: F.lit(True)}
    weights = [F.sum(F.when(condition, F.col(WEIGHT))).alias(f"__{name}") for name, condition in visible.items()]
    pairs = interactions.groupBy(USER_IDX, ITEM_IDX).agg(F.min(EVENT_TS).alias(EVENT_TS), *weights)
    # here EVENT_TS is the first event, so the conditions give the fold of the pair
    fold = F.when(visible[TRAIN], F.lit(TRAIN)).when(visible[VALID], F.lit(VALID)).otherwise(F.lit(TEST))
    weight = F.when(visible[TRAIN], F.col(f"__{TRAIN}")).when(visible[VALID], F.col(f"__{VALID}"))
    weight = weight.otherwise(F.col(f"__{TEST}")).cast("float")
    return pairs.select(USER_IDX, ITEM_IDX, EVENT_TS, weight.alias(WEIGHT), fold.alias(FOLD))


def reference_split(
    events: Sequence[tuple[str, str, float]], *, valid_begins: float, test_begins: float
) -> tuple[dict[tuple[str, str], tuple[str, int]], int]:
    """Return (fold, number of visible events) of each pair of (user, item, day) events, and the number of repeats.

    Plain Python for the example above and for the tests, which compare `split` with it.
    """

    def fold_at(day: float) -> str:
        return TRAIN if day < valid_begins else VALID if day < test_begins else TEST

    first: dict[tuple[str, str], float] = {}
    for user, item, day in events:
        first[user, item] = min(day, first.get((user, item), day))
    visible = Counter((user, item) for user, item, day in events if fold_at(day) == fold_at(first[user, item]))
    return {pair: (fold_at(first[pair]), visible[pair]) for pair in sorted(first)}, len(events) - visible.total()
