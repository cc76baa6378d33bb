"""Explanations of listed items: the history item that contributed most. Numpy only.

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
    contributions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (because int32 [B, n], sources int64 [B, n]) of the lists `items` int32 [B, n], 0-padded.

    `contributions` float32 [M, B, n] are those of `models` to the fused score, -inf of a model without weight. The
    source, an index into `models`, is the model with the largest one, the first of equals. `because` is the history
    item that the source names. If it names none, the model with the next largest contribution is asked, and so on. An
    item that no model can explain gets popularity as its source. Items of that source, and only they, have `because` 0.
    """
    names = list(models)
    popularity = names.index(POPULARITY)
    order = np.argsort(-contributions, axis=0, kind="stable")
    sources, because = order[0].copy(), np.zeros(items.shape, np.int32)
    unexplained = (items != PADDING_ITEM) & (sources != popularity)
    for model_at in order:
        has_weight = np.isfinite(np.take_along_axis(contributions, model_at[None], axis=0)[0])
        for number, name in enumerate(names):
            rows = np.where(unexplained & has_weight & (model_at == number), items, np.int32(PADDING_ITEM))
            if rows.any():
                because += models[name].explain(histories, encoded[name], rows)
        unexplained &= because == PADDING_ITEM
    sources[unexplained] = popularity
    return because, sources
