"""Hold out the last days of everybody.

The cuts are midnights UTC and half-open: test is [test begin, end), valid [valid begin, test begin), train everything before valid begins, where `end` is
the midnight after the newest event. A pair stands in the fold of its first event; users and items may be new in valid or test.

Example, days as numbers, the newest event on day 20:

>>> cuts(date(2026, 1, 20), valid_days=7, test_days=7)
(datetime.datetime(2026, 1, 7, 0, 0, tzinfo=datetime.timezone.utc), datetime.datetime(2026, 1, 14, 0, 0, tzinfo=datetime.timezone.utc))

Test holds 14 to 20 January, seven days, the newest one whole; an event at the first instant of the 14th is test, one a microsecond before is valid.

>>> events = [("ann", "a", 6.99), ("ann", "a", 8), ("ann", "b", 7), ("ann", "b", 15), ("ann", "c", 13.99), ("bob", "a", 14), ("bob", "a", 20)]
>>> folds, repeats = example(events, valid_begins=7, test_begins=14)
>>> for pair, (fold, known) in folds.items():
...     print(*pair, fold, known)
ann a train 1
ann b valid 1
ann c valid 1
bob a test 2

ann's second event with a is a repeat in valid of a pair of train, that with b a repeat in test of a pair of valid: dropped, since neither fold may know
of them and neither is new to her. bob is cold: he has nothing in train.

>>> repeats
2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.columns import EVENT_TS, FOLD, ITEM_IDX, TEST, TRAIN, USER_IDX, VALID, WEIGHT


def cuts(newest: date, *, valid_days: int, test_days: int) -> tuple[datetime, datetime]:
    """When valid and when test begin, given the day (UTC) of the newest event."""
    end = datetime.combine(newest + timedelta(days=1), time(), timezone.utc)
    test_begins = end - timedelta(days=test_days)
    return test_begins - timedelta(days=valid_days), test_begins


def split(interactions: DataFrame, *, valid_begins: datetime, test_begins: datetime) -> DataFrame:
    """The table `folds` of `interactions`. Key: user_idx, item_idx."""
    at = F.col(EVENT_TS)
    before = {TRAIN: at < F.lit(valid_begins), VALID: at < F.lit(test_begins), TEST: F.lit(True)}
    sums = [F.sum(F.when(when, F.col(WEIGHT))).alias(f"__{name}") for name, when in before.items()]
    pairs = interactions.groupBy(USER_IDX, ITEM_IDX).agg(F.min(EVENT_TS).alias(EVENT_TS), *sums)
    fold = F.when(before[TRAIN], F.lit(TRAIN)).when(before[VALID], F.lit(VALID)).otherwise(F.lit(TEST))
    weight = (
        F.when(before[TRAIN], F.col(f"__{TRAIN}"))
        .when(before[VALID], F.col(f"__{VALID}"))
        .otherwise(F.col(f"__{TEST}"))
    )
    return pairs.select(USER_IDX, ITEM_IDX, EVENT_TS, weight.cast("float").alias(WEIGHT), fold.alias(FOLD))


def example(
    events: Sequence[tuple[str, str, float]], *, valid_begins: float, test_begins: float
) -> tuple[dict[tuple[str, str], tuple[str, int]], int]:
    """The rule in plain Python, for the example above and as the tests' oracle: the fold and the number of known events of each pair of
    (user, item, time) events, and the number of events that are dropped."""

    def fold_at(moment: float) -> str:
        return TRAIN if moment < valid_begins else VALID if moment < test_begins else TEST

    first: dict[tuple[str, str], float] = {}
    for user, item, moment in events:
        first[user, item] = min(moment, first.get((user, item), moment))
    known = Counter((user, item) for user, item, moment in events if fold_at(moment) == fold_at(first[user, item]))
    return {pair: (fold_at(first[pair]), known[pair]) for pair in sorted(first)}, len(events) - known.total()
