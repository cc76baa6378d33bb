"""The order of a user's items that were first met at the same moment.

Logs with coarse times have many such ties (half of MovieLens-1M), and whatever breaks them decides which item is held out as the last one.
Breaking them by item would be the same for all users, so a model could learn the rule instead of the users' taste, and its
backtest would flatter it. So each user has an order of their own, fixed and without meaning.
"""

from __future__ import annotations

from typing import TypeVar

_PRIME = 2**31 - 1
_STEP = 1_327_217_885  # the golden ratio of the prime: consecutive users get numbers far apart

Number = TypeVar("Number")


def tie_order(user: Number, item: Number) -> Number:
    """The key that orders `item` among the user's items of one moment, for ints and for Spark columns (int64) alike.

    Multiplication modulo a prime by a number of the user's own; two items of one user never share a key, so it ends every sort.
    """
    own = user % _PRIME * _STEP % _PRIME + 1  # type: ignore[operator]
    return item * own % _PRIME  # type: ignore[operator, no-any-return]
