"""The section `split`: how the backtest holds out its validation and test sets."""

from __future__ import annotations

from typing import Literal

from recsys_spark.config.section import Count, Section, Seed, ShareAboveZero, ShareBelowOne


class Split(Section):
    """Split of the interactions into training, validation and test sets for the backtest."""

    method: Literal["last_n", "temporal", "random"] = "last_n"
    """How items are held out. last_n: the last items of each user. temporal: everything in the last days. random: a
    share of each user's items, for logs without times."""
    valid_n: Count = 1
    """last_n: number of validation items of each user, just before the test items."""
    test_n: Count = 1
    """last_n: number of test items of each user, the last ones."""
    valid_days: Count = 7
    """temporal: length of the validation set in days. It ends where the test set begins."""
    test_days: Count = 7
    """temporal: length of the test set in days. It ends with the day of the newest event."""
    valid_share: ShareAboveZero = 0.1
    """random: share of each user's items in the validation set."""
    test_share: ShareAboveZero = 0.1
    """random: share of each user's items in the test set."""
    min_train: Count = 3
    """last_n and random: minimum number of training items of a user. If fewer would remain, all items of the user are
    used for training."""
    cold_user_share: ShareBelowOne = 0.0
    """Share of users held out with all their items, to measure recommendations for users without history. 0: not
    measured."""
    cold_item_share: ShareBelowOne = 0.0
    """Share of items held out with all their users, to measure recommendations of new items. 0: not measured."""
    seed: Seed = 7
    """Seed of the random split and of the choice of held-out users and items."""
