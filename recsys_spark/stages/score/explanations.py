"""Why an item stands in a user's list: the history item that contributed most. Numpy only.

Shapes:  M models · B users of a batch · n length of a list
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys_spark.columns import PADDING_ITEM, POPULARITY
from recsys_spark.models.base import ItemModel
from recsys_spark.models.histories import Histories


def explain(
    models: Mapping[str, ItemModel],
    histories: Histories,
    encoded: Mapping[str, Any],
    items: np.ndarray,
    shares: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(reasons int32 [B, n], sources int64 [B, n], numbers of models) of the lists `items` int32 [B, n], 0-padded.

    `shares` float32 [M, B, n] is what each model gave to each item, -inf of one that has no say. The source is the model that gave most
    (the first of equals). The reason is the source's own; where it has none it is that of the model that gave next most. An item that
    no history item speaks for in any model has popularity as its source, and so has one that popularity gave most to: they have no
    reason, and all others have one.
    """
    names = list(models)
    popularity = names.index(POPULARITY)
    order = np.argsort(-shares, axis=0, kind="stable")
    sources, found = order[0].copy(), np.zeros(items.shape, np.int32)
    unsaid = (items != PADDING_ITEM) & (sources != popularity)
    for turn in order:
        heard = np.isfinite(np.take_along_axis(shares, turn[None], axis=0)[0])
        for number, name in enumerate(names):
            asked = np.where(unsaid & heard & (turn == number), items, np.int32(PADDING_ITEM))
            if asked.any():
                found += models[name].reasons(histories, encoded[name], asked)
        unsaid &= found == PADDING_ITEM
    sources[unsaid] = popularity
    return found, sources
