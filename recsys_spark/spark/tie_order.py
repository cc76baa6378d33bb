"""Orders the items that a user first interacted with at the same moment.

Logs with coarse times have many such ties: half of MovieLens-1M. The order of ties decides which item is held out as
the last one. If all users had the same order, a model could learn the rule instead of the users' taste, and the
backtest would be too optimistic. So each user has a fixed pseudo-random order.
"""

from __future__ import annotations

from typing import TypeVar

_PRIME = 2**31 - 1
_STEP = 1_327_217_885  # the golden ratio of the prime: consecutive users get numbers far apart

Number = TypeVar("Number")


def tie_order(user: Number, item: Number) -> Number:
    """Return the sort key of `item` among the user's items of one moment, for ints and for Spark columns (int64) alike.

    The key is `item` times a number of the user, modulo a prime. Two items of a user never share a key, so the key
    makes any sort unique.
    """
    factor = user % _PRIME * _STEP % _PRIME + 1  # type: ignore[operator]
    return item * factor % _PRIME  # type: ignore[operator, no-any-return]
