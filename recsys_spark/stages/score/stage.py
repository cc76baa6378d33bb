"""The score stage. Backtest: learn the fusion on valid, then every model's and the fused lists for test. Release: the top N of every user.

Writes, backtest: fusion.json, ranker.txt (if a ranker ships), lists/ and, with score.diversity or
score.max_per_category, diversity_tradeoff/ and, where users or items are held out whole, cold_user/ and cold_item/
(all of the table candidates) ·
release: top_n/ · both: blocked.json (the ids of score.blocked_items as they were).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_spark import columns as c
from recsys_spark import registry as item_models
from recsys_spark.errors import StageMissing
from recsys_spark.fusion.blend import Blend, Fusion
from recsys_spark.fusion.decision import RANKER, decide
from recsys_spark.fusion.sample import HELD_OUT, Sample
from recsys_spark.hashing import digest
from recsys_spark.metrics.bootstrap import Bootstrap
from recsys_spark.metrics.categories import Categories
from recsys_spark.models import base
from recsys_spark.parallel import together
from recsys_spark.rules.diversity import Variety
from recsys_spark.rules.exclusions import exclusions, read_blocked
from recsys_spark.stages.score import cold_start
from recsys_spark.stages.score.all_users import (
    Crew,
    count_exhausted,
    sample_candidates,
    score_users,
    stopwatch,
)
from recsys_spark.stages.score.lists import Search, Wanted
from recsys_spark.storage import manifest, tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.pipeline.job import Context

NAME = "score"
PASSES = (c.BACKTEST, c.RELEASE)
FUSION_FILE = "fusion.json"
RANKER_FILE = "ranker.txt"
BLOCKED_FILE = "blocked.json"
TRADEOFF_DIVERSITIES, TRADEOFF_CAPS, TRADEOFF_USERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (1, 2, 3, 5, 10), 2000
"""Settings that the diversity trade-off tries beside the configured one (and no cap), and the maximum number of test users it uses."""
NEWCOMERS = 5000
"""At most so many users tell how those held out whole are served, and as many how items are."""

# how the work is cut, not what comes out
_EXECUTION_ONLY = {"user_batch", "item_tile", "partitions"}
JUDGED_BY = ("gate_k", "bootstrap_samples", "confidence", "seed")
"""Of `evaluate`: how the fusion is judged."""

log = logging.getLogger(__name__)


def run(context: Context, pass_name: str) -> None:
    """One pass; both need the models and histories of the same pass, the release also the backtest's fusion."""
    names = context.models(pass_name)
    read = [("clean", pass_name), ("baselines", pass_name), ("features", pass_name)]
    if c.NETWORK in names:
        read.append(("train", pass_name))
    if pass_name == c.RELEASE:
        read.append((NAME, c.BACKTEST))
    blocked = read_blocked(context.config.score.blocked_items)
    of_the_pass = {
        c.BACKTEST: {name: getattr(context.config.evaluate, name) for name in JUDGED_BY},
        c.RELEASE: {c.RUN_DATE: context.run_date.isoformat()},
    }
    settings = {
        "score": context.config.score.model_dump(mode="json", exclude=_EXECUTION_ONLY),
        "models": names,
        "blocked": digest(sorted(set(blocked))),
        **of_the_pass[pass_name],
    }
    job = {c.BACKTEST: _backtest, c.RELEASE: _release}[pass_name]
    manifest.run_stage(
        context.layout,
        NAME,
        pass_name,
        inputs={f"{of}/{stage}": manifest.require(context.layout, stage, of).output_id for stage, of in read},
        settings=settings,
        work=lambda folder: job(_Desk.make(context, pass_name, names, blocked, folder)),
        force=context.force,
    )


def learn(context: Context) -> dict[str, Any]:
    """The content of fusion.json by the backtest's models, without anybody's lists: nothing of the test fold is read."""
    folder = context.layout.stage(NAME, c.BACKTEST)
    folder.mkdir(parents=True, exist_ok=True)
    blocked = read_blocked(context.config.score.blocked_items)
    return _learn(_Desk.make(context, c.BACKTEST, context.models(c.BACKTEST), blocked, folder))


@dataclass(frozen=True)
class _Desk:
    """What both passes work with."""

    context: Context
    folder: Path
    pass_name: str
    models: dict[str, Path]
    banned: np.ndarray
    counts: dict[str, Any]

    @classmethod
    def make(cls, context: Context, pass_name: str, names: list[str], blocked: list[str], folder: Path) -> _Desk:
        layout = context.layout
        models = {name: layout.table("train" if name == c.NETWORK else "baselines", pass_name, name) for name in names}
        n_items = item_models.common_size(list(models.values()))
        items = tables.read_arrow(
            layout.table("clean", pass_name, "items"), "items", [c.ITEM_IDX, c.ITEM_ID, c.WITHDRAWN]
        )
        excluded = exclusions(items, n_items, blocked)
        manifest.write_json(folder / BLOCKED_FILE, sorted(set(blocked)))
        counts = {"models": list(models), "n_items": n_items, **excluded.counts}
        return cls(context, folder, pass_name, models, excluded.banned, counts)

    def table(self, name: str, as_of: str) -> DataFrame:
        folder = self.context.layout.table("features", self.pass_name, name)
        return tables.read(self.context.spark, folder, name).where(f"{c.AS_OF} = '{as_of}'")

    @property
    def crew(self) -> Crew:
        score = self.context.config.score
        partitions = score.partitions
        if partitions is None and self.pass_name == c.BACKTEST:
            # some users only, whom Spark may have joined into few partitions; in the release all are scored as their files lie
            partitions = 2 * self.context.spark.sparkContext.defaultParallelism
        return Crew(self.models, score.user_batch, partitions)

    @property
    def search(self) -> Search:
        return Search(self.banned, self.context.config.score.candidates, self.context.config.score.item_tile)

    def wanted(self, told: Mapping[str, Any]) -> Wanted:
        """`told` is the content of fusion.json. Backtest: every model's lists too; release: the fused ones, with reasons."""
        names = tuple(name for name in self.models if name in told["weights"])
        blend = Blend(told["method"], tuple(told["weights"][name] for name in names))
        ranker = str(self.ranker) if told["ships"] == RANKER else None
        published, variety = self.pass_name == c.RELEASE, self.variety
        return Wanted(
            Fusion(names, blend, ranker, self.categories if ranker else None),
            self.context.config.score.top_n,
            each=not published,
            reasons=published,
            varieties=(variety,) if variety else (),
        )

    @property
    def ranker(self) -> Path:
        """The file of the ranker, where one ships."""
        return self.context.layout.table(NAME, c.BACKTEST, RANKER_FILE)

    @cached_property
    def variety(self) -> Variety | None:
        """How lists are spread out, if they are."""
        score = self.context.config.score
        if not score.diversity and score.max_per_category is None:
            return None
        return Variety(score.diversity, score.max_per_category, self.categories)

    @cached_property
    def categories(self) -> Categories:
        """Those of the items."""
        folder = self.context.layout.table("clean", self.pass_name, "items")
        return Categories.of(tables.read_arrow(folder, "items", [c.ITEM_IDX, c.CATEGORIES]), len(self.banned))

    @property
    def know_new_items(self) -> list[str]:
        """The models that tell items which nobody has chosen apart."""
        features = manifest.require(self.context.layout, "features", self.pass_name).counts.get("features")
        able = {c.CONTENT, c.NETWORK} if features else {c.CONTENT}
        return [name for name in self.models if name in able]

    def version(self, fusion: Fusion) -> str:
        """Hash of the item models, the fusion, how lists are spread out if they are, and the categories where one of these asks for them: equal versions
        give equal lists for equal histories."""
        headers = {name: base.read_header(folder) for name, folder in self.models.items()}
        weights = dict(zip(fusion.models, fusion.blend.weights))
        ranker = [self.ranker.read_text(encoding="utf-8")] if fusion.ranker else []
        variety = [[v.diversity, v.cap] for v in (self.variety,) if v]
        categories = [self.categories.version] if ranker or variety else []
        return digest([headers, fusion.blend.method, weights, *ranker, *variety, *categories])


def _backtest(desk: _Desk) -> dict[str, Any]:
    told = _learn(desk)
    manifest.write_json(desk.folder / FUSION_FILE, told)
    wanted = desk.wanted(told)
    tested = desk.table("positives", c.TEST).select(c.USER_IDX)
    histories = desk.table("histories", c.TEST).join(tested, c.USER_IDX, "left_semi")
    lists, counts = _counted(desk, histories, wanted)
    works = [
        lambda: tables.write(lists, desk.folder / "lists", "candidates"),
        lambda: _cold_users(desk, wanted),
        lambda: _cold_items(desk, wanted),
    ]
    if variety := desk.variety:
        works.append(lambda: _diversity_tradeoff(desk, histories, wanted, variety))
    rows, *_ = together(*works)
    version = desk.version(wanted.fusion)
    dropped = [entry[c.MODEL] for entry in told[c.DROPPED]]
    return {"rows": rows, **counts(), **desk.counts, c.DROPPED: dropped, c.MODEL_VERSION: version}


def _diversity_tradeoff(desk: _Desk, histories: DataFrame, wanted: Wanted, variety: Variety) -> None:
    """Write the fused lists of a sample of users under several settings of diversity and of the cap, varying one at a time."""
    steps: list[tuple[float, int | None]] = []
    if variety.diversity:
        steps += [(diversity, variety.cap) for diversity in sorted({*TRADEOFF_DIVERSITIES, variety.diversity})]
    if variety.cap is not None:
        caps = sorted({*(cap for cap in TRADEOFF_CAPS if cap < wanted.length), variety.cap})
        steps += [(variety.diversity, cap) for cap in (None, *caps)]
    varieties = [replace(variety, diversity=diversity, cap=cap) for diversity, cap in dict.fromkeys(steps)]
    chosen = _by_hash(histories, TRADEOFF_USERS)
    lists = score_users(chosen, desk.crew, desk.search, replace(wanted, each=False, varieties=varieties))
    tables.write(lists, desk.folder / c.DIVERSITY_TRADEOFF, "candidates")


def _by_hash(users: DataFrame, most: int) -> DataFrame:
    from pyspark.sql import functions as F

    return users.orderBy(F.xxhash64(c.USER_IDX), c.USER_IDX).limit(most)


def _cold_users(desk: _Desk, wanted: Wanted) -> None:
    """The lists of new users, for the report to tell how these are served."""
    if desk.context.config.split.cold_user_share:
        users = desk.table("positives", c.COLD_USER).select(c.USER_IDX)
        chosen = _by_hash(desk.table("histories", c.TEST).join(users, c.USER_IDX, "left_semi"), NEWCOMERS)
        lists = cold_start.lists_of_users(chosen, desk.crew, desk.search, wanted)
        tables.write(lists, desk.folder / c.COLD_USER, "candidates")


def _cold_items(desk: _Desk, wanted: Wanted) -> None:
    """The lists of new items alone, for the report to tell how these are served."""
    from pyspark.sql import functions as F

    able = desk.know_new_items
    if desk.context.config.split.cold_item_share and able:
        held_out, histories = desk.table("positives", c.COLD_ITEM), desk.table("histories", c.TEST)
        items = np.asarray(held_out.select(F.explode(c.ITEM_IDX)).distinct().toArrow()[0], np.int64)
        known = histories.where(F.size(c.ITEM_IDX) > 0).join(held_out, c.USER_IDX, "left_semi")
        chosen = _by_hash(known, NEWCOMERS)
        lists = cold_start.lists_of_items(chosen, desk.crew, desk.search, wanted, items, able)
        tables.write(lists, desk.folder / c.COLD_ITEM, "candidates")


def _release(desk: _Desk) -> dict[str, Any]:
    from pyspark.sql import functions as F

    wanted = desk.wanted(_read_fusion(desk))
    version = desk.version(wanted.fusion)
    spark, layout = desk.context.spark, desk.context.layout
    users, items = (tables.read(spark, layout.table("clean", c.RELEASE, name), name) for name in ("users", "items"))
    lists, counts = _counted(desk, desk.table("histories", c.RELEASE), wanted)
    reasons = items.select(F.col(c.ITEM_IDX).alias(c.BECAUSE), F.col(c.ITEM_ID).alias("reason"))
    top = (
        lists.join(users.select(c.USER_IDX, c.USER_ID), c.USER_IDX)
        .join(items.select(c.ITEM_IDX, c.ITEM_ID), c.ITEM_IDX)
        .join(reasons, c.BECAUSE, "left")
        .withColumns(
            {
                c.BECAUSE: F.col("reason"),
                c.RUN_DATE: F.lit(desk.context.run_date),
                c.RUN_ID: F.lit(desk.context.layout.run_id),
                c.MODEL_VERSION: F.lit(version),
            }
        )
    )
    rows = tables.write(top, desk.folder / "top_n", "top_n")
    return {"rows": rows, **counts(), **desk.counts, c.MODEL_VERSION: version}


def _counted(desk: _Desk, histories: DataFrame, wanted: Wanted) -> tuple[DataFrame, Callable[[], dict[str, Any]]]:
    """The lists of `histories`, and a function that says, once they are written, how many users got one, had no history, or have seen
    everything, and how many seconds each model took, all tasks together."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    came, went = Observation("histories"), Observation("lists")
    spent = stopwatch(desk.context.spark.sparkContext)
    without = F.count_if(F.size(c.ITEM_IDX) == 0)
    asked = histories.observe(came, F.count(F.lit(1)).alias("asked"), without.alias("without_history"))
    served = F.count_if((F.col(c.MODEL) == c.FUSED) & (F.col(c.RANK) == 1))
    lists = score_users(asked, desk.crew, desk.search, wanted, spent).observe(went, served.alias("served"))

    def counts() -> dict[str, Any]:
        asked, without, served = came.get["asked"], came.get["without_history"], went.get["served"]
        counts = {"users": served, "users_asked": asked, "users_without_history": without}
        counts["seconds"] = {name: round(seconds, 3) for name, seconds in spent.value.items()}
        if served < asked:
            counts["users_exhausted"] = count_exhausted(histories, desk.banned)
            log.warning(
                "score: %d of %d users have no list; %d have seen all that may be shown",
                asked - served,
                asked,
                counts["users_exhausted"],
            )
        return counts

    return lists, counts


def _learn(desk: _Desk) -> dict[str, Any]:
    """The content of fusion.json, learned on users with a history and valid items, chosen by hash; writes the ranker, if one ships.

    Only this sample comes to the driver: histories, and 4 bytes a model and candidate, about 25 kB a user with seven models of 200 candidates,
    and while a ranker is tried some four times that.
    """
    from pyspark.sql import functions as F

    config, names = desk.context.config, list(desk.models)
    score, judged = config.score, config.evaluate
    held_out = desk.table("positives", c.VALID).select(c.USER_IDX, F.col(c.ITEM_IDX).alias(HELD_OUT))
    eligible = desk.table("histories", c.VALID).where(F.size(c.ITEM_IDX) > 0).join(held_out, c.USER_IDX)
    chosen = eligible.orderBy(F.xxhash64(c.USER_IDX), c.USER_IDX).limit(score.fusion_users)
    table = sample_candidates(chosen, desk.crew, desk.search).toArrow()
    popularity = item_models.load(desk.models[c.POPULARITY])
    sample = Sample.of(table, names, popularity, desk.categories, score.candidates)
    bootstrap = Bootstrap(judged.bootstrap_samples, judged.confidence, judged.seed)
    found = decide(
        sample,
        k=judged.gate_k,
        length=score.top_n,
        fusion=score.fusion,
        drop=score.drop,
        bootstrap=bootstrap,
    )
    if found.ranker:
        desk.ranker.write_text(found.ranker, encoding="utf-8")
    told = found.plain()
    log.info("backtest score: the %s ships, %s of %s", told["ships"], told["method"], told["weights"])
    return {**told, "k": judged.gate_k, "users": len(sample.users), "confidence": judged.confidence}


def _read_fusion(desk: _Desk) -> dict[str, Any]:
    path = desk.context.layout.table(NAME, c.BACKTEST, FUSION_FILE)
    told = dict(json.loads(path.read_text(encoding="utf-8")))
    if set(told["weights"]) != set(desk.models):
        raise StageMissing(
            f"{path} has weights of {', '.join(told['weights'])}, and the models are {', '.join(desk.models)}; "
            "run jobs/score.py with both passes"
        )
    return told
