"""Every setting of the job: its type, bounds, unit, meaning and default. `conf/base.yaml` is rendered from here (`make conf`).

The models are frozen and strict: an unknown key is an error, a string is no number. Descriptions end with the unit in brackets.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recsys_spark.columns import ALS, CONTENT, ITEM_KNN, NETWORK, PER_USER, POPULARITY, SVD

Share = Annotated[float, Field(ge=0, le=1)]
NotAll = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Paths(Section):
    """Where things are. Relative paths are relative to the working directory; every node must see the same tree."""

    root: str = Field(default="", description="folder that runs, index and the published table live under")
    events: str = Field(default="", description="the event log: a file, a folder, a glob, or date-partitioned folders")
    items: str | None = Field(default=None, description="item content, optional")
    users: str | None = Field(default=None, description="user attributes, optional")

    @field_validator("root", "events")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must be given, in the overlay or with --set")
        return value

    @field_validator("root")
    @classmethod
    def _mounted(cls, value: str) -> str:
        if "://" in value:
            raise ValueError(
                "must be a path that is mounted on every node, not a URL: item models are memory-mapped from it"
            )
        return value

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class Session(Section):
    """The Spark session. What spark-submit sets on its command line wins."""

    app_name: str = Field(default="recsys_spark", description="name in Spark's pages")
    master: str | None = Field(default=None, description="Spark master when spark-submit names none; null: local[*]")
    shuffle_partitions: Count | None = Field(
        default=None, description="partitions after a shuffle; null: by the size of the log [partitions]"
    )
    options: dict[str, str] = Field(default={}, description="more Spark settings, key to value")


class EventColumns(Section):
    """Names in the event log. null: the log has no such column."""

    user_id: Name = Field(default="user_id", description="column of the user's id")
    item_id: Name = Field(default="item_id", description="column of the item's id")
    event_ts: Name | None = Field(default="timestamp", description="column of the time")
    event_type: Name | None = Field(default=None, description="column of the event type")
    rating: Name | None = Field(default=None, description="column of the rating")
    quantity: Name | None = Field(default=None, description="column of the quantity")
    price: Name | None = Field(default=None, description="column of the price")


class ItemColumns(Section):
    """Names in the items file. null: it has no such column."""

    item_id: Name = Field(default="item_id", description="column of the item's id")
    title: Name | None = Field(default="title", description="column of the title")
    category: Name | None = Field(default="category", description="column of the categories")
    text: Name | None = Field(default=None, description="column of the description")
    withdrawn: Name | None = Field(default=None, description="column that is true for items not to be recommended")


class UserColumns(Section):
    """Names in the users file."""

    user_id: Name = Field(default="user_id", description="column of the user's id")
    attributes: list[Name] = Field(default=[], description="columns kept as attributes")


class Clean(Section):
    """Raw events in; interactions, quarantine, users and items out."""

    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = Field(
        default="auto", description="of all inputs; auto: by the file's suffix"
    )
    columns: EventColumns = Field(default=EventColumns(), description="of the event log")
    item_columns: ItemColumns = Field(default=ItemColumns(), description="of the items file")
    user_columns: UserColumns = Field(default=UserColumns(), description="of the users file")
    category_separator: str = Field(default="|", min_length=1, description="splits the categories of an item")
    segment_by: list[str] = Field(default=[], description="attributes whose values together name a user's segment")
    time_unit: Literal["iso", "s", "ms", "us"] = Field(
        default="iso",
        description="iso: ISO 8601 text or a timestamp column, UTC where no zone is given; else a number since 1970 [s, ms or us]",
    )
    event_weights: dict[str, Positive] = Field(
        default={"view": 1.0, "cart": 3.0, "purchase": 5.0, "rating": 1.0},
        min_length=1,
        description="event types that count, and their weights",
    )
    default_event_type: str = Field(default="view", description="event type of a log without such a column")
    earliest: date = Field(default=date(1995, 1, 1), description="older events are quarantined [UTC date]")
    rating_range: tuple[float, float] | None = Field(default=None, description="lowest and highest rating; null: any")
    quantity_range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest quantity, returns apart; null: any [pieces]"
    )
    price_range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest price; null: any [the log's currency]"
    )
    returns: bool = Field(
        default=True,
        description="a negative quantity is a return that cancels the user's latest purchases of the item",
    )
    require_known_items: bool = Field(
        default=False, description="quarantine events whose item is not in the items file"
    )
    max_events_per_user_day: Count | None = Field(
        default=5000, description="a user above it on any day is a bot; null: no limit [events]"
    )
    max_events_per_user: Count | None = Field(
        default=200_000, description="a user above it in the whole log is a bot; null: no limit [events]"
    )
    k_core_users: Count = Field(default=1, description="users with fewer items are left out, repeatedly [items]")
    k_core_items: Count = Field(default=1, description="items with fewer users are left out, repeatedly [users]")

    @field_validator("rating_range", "quantity_range", "price_range", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value)
        return value

    @field_validator("rating_range", "quantity_range", "price_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and value[0] > value[1]:
            raise ValueError(f"the lowest, {value[0]}, is above the highest, {value[1]}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Clean:
        if self.columns.event_type is None and self.default_event_type not in self.event_weights:
            raise ValueError(
                f"default_event_type {self.default_event_type!r} is not in event_weights ({', '.join(self.event_weights)})"
            )
        strangers = [a for a in self.segment_by if a not in self.user_columns.attributes]
        if strangers:
            raise ValueError(f"segment_by names {', '.join(strangers)}, which user_columns.attributes does not list")
        return self


class Split(Section):
    """Interactions into folds for the backtest."""

    method: Literal["last_n", "temporal", "random"] = Field(
        default="last_n", description="how valid and test are held out"
    )
    valid_n: Count = Field(default=1, description="last_n: last items of a user before the test items [items]")
    test_n: Count = Field(default=1, description="last_n: last items of a user [items]")
    valid_days: Count = Field(default=7, description="temporal: length of valid, which ends where test begins [days]")
    test_days: Count = Field(
        default=7, description="temporal: length of test, which ends at the newest event's day [days]"
    )
    valid_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="random: of each user's items [share]"
    )
    test_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="random: of each user's items [share]"
    )
    min_train: Count = Field(
        default=3, description="last_n and random: users left with fewer train items are all train [items]"
    )
    cold_user_share: NotAll = Field(
        default=0.0,
        description="users held out whole in the backtest, to measure how newcomers are served [share]",
    )
    cold_item_share: NotAll = Field(
        default=0.0, description="items held out whole in the backtest, as users are [share]"
    )
    seed: Seed = Field(default=7, description="random, and who is held out whole: seed")


class Popularity(Section):
    half_life_days: Positive | None = Field(
        default=None, description="an event this much older counts half; null: no decay [days]"
    )


class Als(Section):
    factors: Count = Field(default=64, description="length of the vectors")
    iterations: Count = Field(default=12, description="alternations")
    warm_iterations: Count | None = Field(
        default=None,
        description="release: alternations when an earlier night left item vectors to start from; null: never start from them",
    )
    regularization: Positive = Field(
        default=5.0,
        description="lambda, times the pairs of a row to the power regularization_exponent",
    )
    regularization_exponent: Share = Field(
        default=0.0, description="nu: 0 plain ridge, 1 in proportion to a row's pairs"
    )
    confidence: Positive = Field(default=1.0, description="alpha: an observed pair weighs 1 + alpha * weight")
    unobserved_weight: Positive = Field(default=1.0, description="weight of a pair that was not observed")
    seed: Seed = Field(default=7, description="of the first vectors")


class ItemKnn(Section):
    user_power: NotNegative = Field(default=0.5, description="exponent of a user's degree")
    source_power: NotNegative = Field(default=0.6, description="exponent of the history item's degree")
    target_power: Annotated[float, Field(ge=-2)] = Field(
        default=0.4, description="exponent of the candidate's degree; below 0 what is popular gains"
    )
    similarity_power: Positive = Field(default=0.7, description="exponent of a similarity")
    shrinkage: NotNegative = Field(
        default=0.0,
        description="similarities are multiplied by n / (n + shrinkage), n users in common [users]",
    )
    norm_power: NotNegative = Field(
        default=0.0, description="exponent of the norm of what is kept of a candidate's similarities"
    )
    neighbours: Count = Field(default=1000, description="kept for each item [items]")


class ItemRidge(Section):
    user_power: NotNegative = Field(
        default=0.25, description="exponent of a user's degree in what the user weighs, squared"
    )
    regularization: Positive = Field(default=10.0, description="lambda of the squared weights")
    target_power: NotNegative = Field(
        default=0.0, description="what is said of a candidate is divided by its degree to this power"
    )
    neighbours: Annotated[int, Field(ge=1, lt=65_536)] = Field(
        default=200, description="most similar items that tell of an item [items]"
    )


class UserKnn(Section):
    similarity: Literal["cosine", "pearson"] = Field(
        default="cosine", description="of users' rows of 0 and 1; pearson: their correlation over all items"
    )
    item_power: NotNegative = Field(
        default=0.5, description="an item in common weighs its degree to the power -item_power"
    )
    user_power: NotNegative = Field(
        default=0.5, description="exponent of a user's number of items, or for pearson variance"
    )
    similarity_power: Positive = Field(default=1.0, description="exponent of a similarity")
    target_power: NotNegative = Field(
        default=0.3, description="scores are divided by the candidate's degree to this power"
    )
    neighbours: Count = Field(default=500, description="of each user [users]")
    max_users: Count | None = Field(
        default=None, description="reference users, chosen by hash; null: all who have pairs [users]"
    )


class Svd(Section):
    factors: Count = Field(default=512, description="singular vectors kept")
    user_power: NotNegative = Field(default=0.3, description="exponent of a user's degree")
    item_power: NotNegative = Field(default=0.3, description="exponent of an item's degree")
    singular_power: NotNegative = Field(
        default=0.5, description="a factor weighs its singular value to this power; 0: all alike"
    )
    target_power: NotNegative = Field(
        default=0.15, description="scores are multiplied by the candidate's degree to this power"
    )


class Content(Section):
    max_term_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2,
        description="terms found in more of the items that have any are dropped and counted [share]",
    )
    neighbours: Count = Field(default=50, description="kept for each item [items]")


class Baselines(Section):
    """Item models that need no network."""

    models: list[Literal["popularity", "als", "item_knn", "item_ridge", "user_knn", "svd", "content"]] = Field(
        default=["popularity", "als", "item_knn"],
        description="which to fit; popularity also serves users without history",
    )
    popularity: Popularity = Field(default=Popularity(), description="how often an item was chosen")
    als: Als = Field(default=Als(), description="implicit alternating least squares")
    item_knn: ItemKnn = Field(default=ItemKnn(), description="item-item cosine neighbours")
    item_ridge: ItemRidge = Field(default=ItemRidge(), description="ridge regression of each item on its neighbours")
    user_knn: UserKnn = Field(default=UserKnn(), description="user-user neighbours")
    svd: Svd = Field(default=Svd(), description="truncated SVD as a low-pass filter")
    content: Content = Field(
        default=Content(), description="TF-IDF neighbours by title, text and categories; needs paths.items"
    )
    tasks: Count = Field(
        default=64,
        description="blocks that a fit is cut into at most: one for each core, or for each million pairs where these are more [blocks]",
    )

    @field_validator("models")
    @classmethod
    def _popularity_is_there(cls, value: list[str]) -> list[str]:
        if POPULARITY not in value:
            raise ValueError("must hold popularity, which serves users without history")
        if len(set(value)) < len(value):
            raise ValueError("names a model twice")
        return value


class Features(Section):
    """What training reads."""

    history_length: Count = Field(default=50, description="newest items of a history that the network sees [items]")
    examples: Literal["targets", "users"] = Field(
        default="targets",
        description="targets: an item and the history before it; users: the whole history of a user of two items or more",
    )
    max_examples_per_user: Count = Field(
        default=50, description="targets: newest targets of a user that become examples [examples]"
    )
    row_groups: Count = Field(
        default=8,
        description="equal row groups of the examples, a multiple of train.workers; so many, or as many times that as keeps one within 64 MiB [groups]",
    )
    min_category_items: Count = Field(default=5, description="rarer content features are dropped and counted [items]")
    seed: Seed = Field(default=7, description="of the order of the examples")


class Train(Section):
    """The network."""

    enabled: bool = Field(default=True, description="false: a night of baselines only")
    workers: Count = Field(default=1, description="data-parallel training processes [processes]")
    launcher: Literal["local", "spark"] = Field(
        default="local", description="local: processes on the driver's machine; spark: inside the executors"
    )
    threads: Count = Field(default=1, description="of arithmetic in each worker on a CPU [threads]")
    encoder: Literal["mlp", "vae", "gru", "lstm", "conv", "attention"] = Field(
        default="mlp", description="what makes a user's vector of their history; all but mlp learn from users"
    )
    dimension: Count = Field(default=64, description="of the vectors")
    start: Literal["random", "svd"] = Field(
        default="random",
        description="where the items' vectors begin; svd: at the baseline's singular vectors, the first of them",
    )
    neighbours: int = Field(
        default=0,
        ge=0,
        description="most similar items, by the baseline item_knn, whose vectors join an item's own; 0: none [items]",
    )
    hidden: Count = Field(
        default=128, description="width of the encoder's hidden layers; conv has none but of dimension"
    )
    layers: Count = Field(default=1, description="gru, lstm: recurrent layers; conv, attention: residual blocks")
    attention_heads: Count = Field(default=1, description="attention: heads, which share the dimension")
    dropout: NotAll = Field(default=0.1, description="share of history items and hidden units dropped")
    kl_weight: NotNegative = Field(
        default=0.2,
        description="vae: what a nat of divergence from the prior counts beside a nat of likelihood, reached linearly at the end of epochs",
    )
    epochs: Count = Field(default=6, description="at most; the learning rate falls to nothing at their end [epochs]")
    warm_epochs: Count | None = Field(
        default=None,
        description="release: epochs of a training that starts from the backtest's weights; null: it starts anew, and takes as many as were best there [epochs]",
    )
    minutes: Positive | None = Field(
        default=None,
        description="that the backtest's training may take; the first epoch tells how many fit, two at least; null: as long as it takes [min]",
    )
    patience: Count = Field(default=2, description="epochs without a better valid NDCG before it stops [epochs]")
    batch_size: Count = Field(default=1024, description="of each worker [examples]")
    learning_rate: Positive = Field(
        default=0.006, description="the highest, of one worker; multiplied by the number of workers"
    )
    warmup_epochs: NotNegative = Field(default=0.5, description="linear rise to the highest learning rate [epochs]")
    weight_decay: NotNegative = Field(default=0.0, description="of the dense parameters")
    temperature: Positive = Field(default=0.1, description="divides the cosine of user and item vectors")
    negatives: Count = Field(
        default=512, description="uniform negatives shared by a batch, beside the in-batch ones [items]"
    )
    full_softmax_items: int = Field(
        default=5_000, ge=0, description="catalogues up to this size use the full softmax [items]"
    )
    metric_k: Count = Field(default=10, description="cut of the valid NDCG that stops training")
    valid_users: Count = Field(
        default=20_000, description="users the valid NDCG is measured on, chosen by hash [users]"
    )
    mixed_precision: bool = Field(
        default=True, description="products in bfloat16, where the GPU or CPU has instructions for them"
    )
    seed: Seed = Field(default=7, description="of weights, order and negatives")
    timeout_s: Count = Field(default=600, description="spark launcher: longest wait for the executors' slots [s]")

    @property
    def takes_from(self) -> list[str]:
        """The baselines that training takes something from."""
        return [*([SVD] if self.start == SVD else []), *([ITEM_KNN] if self.neighbours else [])]


class Score(Section):
    """Top N of every user."""

    top_n: Count = Field(default=20, description="length of the published list [items]")
    candidates: Count = Field(default=200, description="list of each model that goes into the blend [items]")
    user_batch: Count = Field(default=1024, description="users scored at a time in a task [users]")
    item_tile: Count = Field(default=1024, description="items scored at a time in a task, for 256 users [items]")
    partitions: Count | None = Field(
        default=None,
        description="tasks that score; null: as the histories' files lie in the release, two for each core in the backtest [tasks]",
    )
    fusion_users: Count = Field(
        default=5000, description="valid users the fusion is learned on, chosen by hash [users]"
    )
    fusion: Literal["auto", "blend", "ranker"] = Field(
        default="auto",
        description="what orders the fused list: a weighted blend, a learned ranker over the blend's best, or whichever is better on valid",
    )
    drop: bool = Field(
        default=True, description="whether the release does without models that the fusion is as good without"
    )
    diversity: Share = Field(
        default=0.0,
        description="1 - lambda of MMR, which lists an item the less the more it is like those above it; 0: not asked",
    )
    max_per_category: Count | None = Field(
        default=None,
        description="of one category in a list, which may end early for it; null: any number [items]",
    )
    blocked_items: Name | None = Field(
        default=None, description="text file of item ids that are never recommended, one a line"
    )


class Gates(Section):
    """What the backtest must show before anything is published. null: not asked."""

    max_drop_below_best_baseline: NotNegative | None = Field(
        default=0.005, description="fused NDCG may be this much below the best baseline's"
    )
    min_ndcg: NotNegative | None = Field(default=None, description="lowest fused NDCG")
    min_coverage: Share | None = Field(
        default=0.01, description="least share of the items that some list shows [share]"
    )
    every_user_served: bool = Field(default=True, description="every user of the users table has a list")
    max_size_change: NotNegative | None = Field(
        default=0.5, description="of the table's rows against the last published night's [share]"
    )


class Evaluate(Section):
    """Backtest metrics, gates and the report."""

    cutoffs: list[Count] = Field(
        default=[5, 10, 20],
        min_length=1,
        description="lengths k the lists are cut at; none above score.top_n [items]",
    )
    gate_k: Count = Field(default=10, description="the cutoff that gates and plots use [items]")
    bootstrap_samples: Count = Field(default=1000, description="resamples of the paired bootstrap")
    bootstrap_users: Count = Field(default=200_000, description="users the bootstrap works on, chosen by hash [users]")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.95, description="of the intervals [share]")
    example_users: Count = Field(default=12, description="users shown in the report [users]")
    seed: Seed = Field(default=7, description="of the bootstrap")
    gates: Gates = Field(default=Gates(), description="conditions of publishing")


class Publish(Section):
    """One Delta commit."""

    files: Count = Field(default=4, description="Parquet files of a night [files]")
    keep_nights: Count = Field(default=30, description="older run dates leave the table with the commit [nights]")
    vacuum_hours: Count = Field(default=168, description="files that left the table longer ago are deleted [h]")


class Config(Section):
    """The whole configuration of one run."""

    paths: Paths = Field(description="where things are")
    session: Session = Field(default=Session(), description="the Spark session")
    clean: Clean = Field(default=Clean(), description="raw events to interactions")
    split: Split = Field(default=Split(), description="interactions to folds")
    baselines: Baselines = Field(default=Baselines(), description="item models that need no network")
    features: Features = Field(default=Features(), description="what training reads")
    train: Train = Field(default=Train(), description="the network")
    score: Score = Field(default=Score(), description="top N of every user")
    evaluate: Evaluate = Field(default=Evaluate(), description="metrics, gates, report")
    publish: Publish = Field(default=Publish(), description="the published table")

    @property
    def models(self) -> list[str]:
        """The item models of a night, in the order in which they are named everywhere."""
        return [*self.baselines.models, *([NETWORK] if self.train.enabled else [])]

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        faults = []
        if self.clean.columns.event_ts is None and self.split.method != "random":
            faults.append(
                f"split.method: {self.split.method} needs times, and clean.columns.event_ts is null; use random"
            )
        if self.clean.columns.event_ts is None and self.baselines.popularity.half_life_days is not None:
            faults.append("baselines.popularity.half_life_days: needs times, and clean.columns.event_ts is null")
        if self.split.method == "random" and self.split.valid_share + self.split.test_share >= 1:
            faults.append(
                "split.valid_share + split.test_share: nothing would be left to train on; keep the sum below 1"
            )
        if self.train.encoder != "mlp" and self.features.examples != PER_USER:
            faults.append(
                f"train.encoder: {self.train.encoder} learns from whole histories, and features.examples is {self.features.examples}; "
                "set features.examples to users, or train.encoder to mlp"
            )
        if self.train.encoder == "attention" and self.train.dimension % self.train.attention_heads:
            faults.append(
                f"train.attention_heads: {self.train.attention_heads} heads cannot share train.dimension, {self.train.dimension}; "
                "make train.dimension a multiple of them"
            )
        if self.train.enabled and self.train.neighbours and ITEM_KNN not in self.baselines.models:
            faults.append(
                f"train.neighbours: {self.train.neighbours} of each item, and baselines.models does not name item_knn, which knows them; "
                "name it there, or set train.neighbours to 0"
            )
        if self.train.enabled and self.train.start == SVD:
            if SVD not in self.baselines.models:
                faults.append(
                    "train.start: svd begins at the vectors of a model that baselines.models does not name; name svd there"
                )
            if self.train.dimension > self.baselines.svd.factors:
                faults.append(
                    f"train.dimension: {self.train.dimension} with train.start svd, and baselines.svd.factors is {self.baselines.svd.factors}; "
                    "lower the first or raise the second"
                )
        if self.features.row_groups % self.train.workers:
            faults.append(
                f"features.row_groups: {self.features.row_groups} is no multiple of train.workers, {self.train.workers}"
            )
        too_long = [k for k in (*self.evaluate.cutoffs, self.evaluate.gate_k) if k > self.score.top_n]
        if too_long:
            faults.append(f"evaluate.cutoffs, gate_k: {too_long} longer than score.top_n, {self.score.top_n}")
        if self.evaluate.gate_k not in self.evaluate.cutoffs:
            faults.append(
                f"evaluate.gate_k: {self.evaluate.gate_k} is not one of evaluate.cutoffs, {self.evaluate.cutoffs}"
            )
        if self.score.candidates < self.score.top_n:
            faults.append(f"score.candidates: {self.score.candidates} is fewer than score.top_n, {self.score.top_n}")
        categories = self.paths.items and self.clean.item_columns.category
        if self.score.diversity and not categories and ALS not in self.models:
            faults.append(
                "score.diversity: compares items by their categories, and where they have none by als; "
                "name paths.items and clean.item_columns.category, or als in baselines.models"
            )
        if self.score.max_per_category and not categories:
            faults.append("score.max_per_category: needs paths.items and clean.item_columns.category")
        if self.clean.segment_by and not self.paths.users:
            faults.append("clean.segment_by: needs paths.users")
        if self.clean.require_known_items and not self.paths.items:
            faults.append("clean.require_known_items: needs paths.items")
        if CONTENT in self.baselines.models and not self.paths.items:
            faults.append(
                "baselines.models: content needs paths.items, which is null; name the items file there, or leave content out"
            )
        columns = self.clean.item_columns
        if CONTENT in self.baselines.models and not (columns.title or columns.category or columns.text):
            faults.append(
                "clean.item_columns: title, category and text are all null, and baselines.models has content; "
                "name one of the columns, or leave content out"
            )
        if faults:
            raise ValueError("\n".join(faults))
        return self
