"""From the sample to the fusion that ships, and what there is to tell of how it was chosen."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from recsys_spark.columns import FUSED
from recsys_spark.fusion import model_selection
from recsys_spark.fusion.blend import ZSCORE, Blend
from recsys_spark.fusion.blend_search import alone, best_blend
from recsys_spark.fusion.model_selection import FEWEST, Contest, Crossed, Judge, Selection
from recsys_spark.fusion.sample import Sample
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.parallel import together

log = logging.getLogger(__name__)

AUTO, BLEND, RANKER = "auto", "blend", "ranker"


@dataclass(frozen=True)
class Decision:
    """The blend of `models`, the ranker's text if one ships, NDCG@k on valid of each model alone and of the blend where it was learned, and how it was
    chosen (None: there was too little to choose by)."""

    models: tuple[str, ...]
    blend: Blend
    ranker: str | None
    valid_ndcg: dict[str, float]
    selection: Selection | None = None
    contest: Contest | None = None

    @property
    def crossed_ndcg(self) -> float | None:
        """NDCG@k on valid of what ships, each user by trees and weights that were learned on others; None where there was too little to choose by."""
        return float(self.selection.kept.ndcg.mean()) if self.selection else None

    def plain(self) -> dict[str, Any]:
        """The tree of fusion.json, but for what it was learned on."""
        found = self.selection
        return {
            "method": self.blend.method,
            "weights": dict(zip(self.models, self.blend.weights)),
            "ships": RANKER if self.ranker else BLEND,
            "valid_ndcg": self.valid_ndcg,
            "crossed_ndcg": self.crossed_ndcg,
            "leave_one_out": {name: e.plain() for name, e in found.adds.items()} if found else {},
            "dropped": [{"model": m, **e.plain()} for m, e in found.dropped.items()] if found else [],
            "contest": asdict(self.contest) if self.contest else None,
        }


def decide(sample: Sample, *, k: int, length: int, fusion: str, drop: bool, bootstrap: Bootstrap) -> Decision:
    """Which models, with which weights, and whether a ranker orders the lists of `length`. `fusion`: BLEND or RANKER, or AUTO, the better one."""
    names = sample.models
    if not len(sample.telling):
        log.warning(
            "fusion: none of the valid items of %d users is among the candidates; all models get the same weight",
            len(sample.users),
        )
        equal = Blend(ZSCORE, (1 / len(names),) * len(names))
        return Decision(names, equal, None, dict.fromkeys((*names, FUSED), 0.0))
    blend, ndcg = best_blend(sample, k)
    valid, method = alone(sample, blend.method, k), blend.method
    found, fought, ranks = None, None, fusion == RANKER
    if len(sample.telling) < FEWEST:
        log.info("fusion: %d users are too few to drop a model or try a ranker", len(sample.telling))
    else:
        everyone = model_selection.crossed(sample, method, k)

        def select(everyone: Crossed, judge: Judge) -> Selection:
            return model_selection.select(
                sample, method, k, everyone=everyone, judge=judge, drop=drop, bootstrap=bootstrap
            )

        def contest() -> tuple[Contest, Crossed | None]:
            return model_selection.contest(sample, method, everyone, length=length, k=k, bootstrap=bootstrap)

        ranked = None
        if fusion == AUTO:
            # the ranker seldom wins: what is kept where it does not is found meanwhile
            (fought, ranked), found = together(contest, lambda: select(everyone, model_selection.by_blend))
            ranks = fought.difference.low > 0
        elif fusion == RANKER:
            fought, ranked = contest()
        else:
            found = select(everyone, model_selection.by_blend)
        if ranks or found is None:
            judge = model_selection.by_ranker(method, k, length)
            found = select(ranked or judge(sample, everyone), judge)
        for name, loss in found.dropped.items():
            log.info("fusion: %s is dropped, it adds %.5f to valid NDCG@%d", name, loss.mean, k)
        if found.dropped:
            sample = sample.only(found.kept.models)
            blend, ndcg = best_blend(sample, k)
    text = model_selection.fit_ranker(sample, blend, length=length, k=k) if ranks else None
    return Decision(sample.models, blend, text, {**valid, FUSED: ndcg}, found, fought)
