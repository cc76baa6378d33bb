"""The section `baselines`: the item models that need no network, one section a model.

The names of the model sections are the values that `baselines.models` accepts, so a new model adds its section here
and its entry in the registry.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from recsys_spark.columns import ALS, FORMER_NAMES, ITEM_KNN, POPULARITY
from recsys_spark.config.section import Count, NotNegative, Positive, Section, Seed, Share, ShareAboveZero


class Popularity(Section):
    """Popularity: the number of users who chose an item, in all and in each segment."""

    half_life_days: Positive | None = None
    """Age in days at which an interaction counts half. null: no decay. Set it if popular items change fast."""


class Als(Section):
    """Implicit alternating least squares (ALS), a matrix factorization."""

    factors: Count = 64
    """Length of the item and user vectors. More factors fit larger catalogues better and cost time quadratically."""
    iterations: Count = 12
    """Number of iterations, each of which solves for all users and all items once."""
    warm_iterations: Count | None = None
    """Number of iterations of the release if it can start from the item vectors of an earlier night. null: it always
    starts from random vectors."""
    regularization: Positive = 5.0
    """Weight of the L2 regularization (lambda). Raise it if the model overfits."""
    regularization_exponent: Share = 0.0
    """Growth of the regularization with the number n of interactions of a user or item: it is multiplied by n **
    regularization_exponent. 0: the same for all."""
    confidence: Positive = 1.0
    """Confidence in interactions (alpha): an interaction counts 1 + alpha * weight. Lower it if large weights say
    little, as for repeated purchases of staples."""
    unobserved_weight: Positive = 1.0
    """Weight of the user-item pairs without an interaction. Lower it for sparse logs."""
    seed: Seed = 7
    """Seed of the initial vectors."""


class ItemKnn(Section):
    """Item-based k-nearest neighbours (item kNN) by cosine. Normalization precedes similarity_power and shrinkage."""

    user_power: NotNegative = 0.5
    """Normalization by user activity: a user with n items counts n ** (-2 * user_power). Raise it if very active users
    dominate."""
    source_power: NotNegative = 0.6
    """Normalization by popularity: similarities to a history item with n users are divided by n ** source_power. Raise
    it if popular history items dominate."""
    target_power: Annotated[float, Field(ge=-2)] = 0.4
    """Normalization by popularity: similarities to a candidate with n users are divided by n ** target_power. Lower it,
    also below 0, to recommend more popular items."""
    similarity_power: Positive = 0.7
    """Power of the similarities. Raise it to give the nearest items more weight."""
    shrinkage: NotNegative = 0.0
    """Shrinkage s: the similarity of two items with n common users is multiplied by n / (n + s). Raise it if items with
    few users rank too high."""
    norm_power: NotNegative = 0.0
    """Normalization of a candidate's similarities: they are divided by their L2 norm ** norm_power. Raise it if items
    that resemble many others rank too high."""
    neighbours: Count = 1000
    """Maximum number of neighbours of an item. More neighbours cost memory and scoring time."""


class ItemRidge(Section):
    """Ridge regression of each item on its most similar items."""

    user_power: NotNegative = 0.25
    """Normalization by user activity: a user with n items has the weight n ** (-2 * user_power) in the regression.
    Raise it if very active users dominate."""
    regularization: Positive = 10.0
    """Weight of the L2 regularization (lambda). Raise it if the model overfits."""
    target_power: NotNegative = 0.0
    """Normalization by popularity: the scores of a candidate with n users are divided by n ** target_power. Raise it to
    recommend less popular items."""
    neighbours: Annotated[int, Field(ge=1, lt=65_536)] = 200
    """Number of similar items in the regression of an item. The time of the fit grows with its cube."""


class UserKnn(Section):
    """User-based k-nearest neighbours (user kNN). Normalization precedes similarity_power."""

    similarity: Literal["cosine", "pearson"] = "cosine"
    """Similarity of two users. cosine: cosine of their 0/1 item vectors. pearson: correlation of these vectors over all
    items."""
    item_power: NotNegative = 0.5
    """Normalization by popularity: a common item with n users counts n ** -item_power. Raise it if popular items
    dominate."""
    user_power: NotNegative = 0.5
    """Normalization by user activity: the similarity of users with n and m items is divided by (n * m) ** user_power.
    pearson uses variances instead of n and m."""
    similarity_power: Positive = 1.0
    """Power of the similarities. Raise it to give the nearest users more weight."""
    target_power: NotNegative = 0.3
    """Normalization by popularity: the scores of a candidate with n users are divided by n ** target_power. Raise it to
    recommend less popular items."""
    neighbours: Count = 500
    """Maximum number of neighbours of a user."""
    max_users: Count | None = None
    """Maximum number of users who can be neighbours, chosen by hash. null: all users. Set it if scoring takes too much
    time or memory."""


class Svd(Section):
    """Truncated singular value decomposition (SVD) of the normalized user-item matrix."""

    factors: Count = 512
    """Number of singular vectors. More factors keep finer patterns and cost time."""
    user_power: NotNegative = 0.3
    """Normalization by user activity: the matrix row of a user with n items is divided by n ** user_power."""
    item_power: NotNegative = 0.3
    """Normalization by popularity: the matrix column of an item with n users is divided by n ** item_power."""
    singular_power: NotNegative = 0.5
    """Power of the singular values, which weight the factors. 0: equal weights."""
    target_power: NotNegative = 0.15
    """Popularity boost: the scores of a candidate with n users are multiplied by n ** target_power. Raise it to
    recommend more popular items."""


class Content(Section):
    """Content-based neighbours: the cosine of the TF-IDF vectors of title, text and categories. Needs paths.items."""

    max_term_share: ShareAboveZero = 0.2
    """Maximum share of items with the same term. More frequent terms are dropped. Lower it if the fit is slow."""
    neighbours: Count = 50
    """Maximum number of neighbours of an item."""


class Baselines(Section):
    """Item models that need no network."""

    models: list[str] = [POPULARITY, ALS, ITEM_KNN]
    """Names of the models to fit, out of the sections below. popularity is required, because it serves users without
    history."""
    popularity: Popularity = Popularity()
    als: Als = Als()
    item_knn: ItemKnn = ItemKnn()
    item_ridge: ItemRidge = ItemRidge()
    user_knn: UserKnn = UserKnn()
    svd: Svd = Svd()
    content: Content = Content()
    tasks: Count = 64
    """Maximum number of blocks that the interactions are divided into for the fits. There is one block per core, or one
    per million interactions if that is more."""

    @field_validator("models")
    @classmethod
    def _valid_names(cls, value: list[str]) -> list[str]:
        sections = [name for name, field in cls.model_fields.items() if isinstance(field.default, Section)]
        for name in value:
            if name in FORMER_NAMES:
                raise ValueError(f"{name} is now called {FORMER_NAMES[name]}. Use the new name")
            if name not in sections:
                raise ValueError(f"unknown model {name}. Use names of {', '.join(sections)}")
        if len(set(value)) < len(value):
            raise ValueError("a name occurs twice. Remove one")
        if POPULARITY not in value:
            raise ValueError("popularity is missing, and users without history need it. Add it")
        return value
