"""The k best items of each user: the one place that knows how lists are found.

    items, scores = top_k(model, model.encode(histories), Exclusions(banned, histories), k, tile=1024)

`search.py` chooses the method by the kind of model: `inner_product.py`, `sparse.py`, `gpu.py`, or tiles of all items.
"""

from recsys_spark.topk.dispatch import top_k
from recsys_spark.topk.exclusions import Exclusions
from recsys_spark.topk.selection import rank_candidates

__all__ = ["Exclusions", "rank_candidates", "top_k"]
