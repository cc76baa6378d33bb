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

    half_life_days: Positive | None = Field(
        default=None,
        description="Age in days at which an interaction counts half. null: no decay. Set it if popular items change"
        " fast.",
    )


class Als(Section):
    """Implicit alternating least squares (ALS), a matrix factorization."""

    factors: Count = Field(
        default=64,
        description="Length of the item and user vectors. More factors fit larger catalogues better and cost time"
        " quadratically.",
    )
    iterations: Count = Field(
        default=12, description="Number of iterations, each of which solves for all users and all items once."
    )
    warm_iterations: Count | None = Field(
        default=None,
        description="Number of iterations of the release if it can start from the item vectors of an earlier night."
        " null: it always starts from random vectors.",
    )
    regularization: Positive = Field(
        default=5.0, description="Weight of the L2 regularization (lambda). Raise it if the model overfits."
    )
    regularization_exponent: Share = Field(
        default=0.0,
        description="Growth of the regularization with the number n of interactions of a user or item: it is"
        " multiplied by n ** regularization_exponent. 0: the same for all.",
    )
    confidence: Positive = Field(
        default=1.0,
        description="Confidence in interactions (alpha): an interaction counts 1 + alpha * weight. Lower it if large"
        " weights say little, as for repeated purchases of staples.",
    )
    unobserved_weight: Positive = Field(
        default=1.0, description="Weight of the user-item pairs without an interaction. Lower it for sparse logs."
    )
    seed: Seed = Field(default=7, description="Seed of the initial vectors.")


class ItemKnn(Section):
    """Item-based k-nearest neighbours (item kNN) by cosine. Normalization comes before similarity_power and shrinkage."""

    user_power: NotNegative = Field(
        default=0.5,
        description="Normalization by user activity: a user with n items counts n ** (-2 * user_power). Raise it if"
        " very active users dominate.",
    )
    source_power: NotNegative = Field(
        default=0.6,
        description="Normalization by popularity: similarities to a history item with n users are divided by n **"
        " source_power. Raise it if popular history items dominate.",
    )
    target_power: Annotated[float, Field(ge=-2)] = Field(
        default=0.4,
        description="Normalization by popularity: similarities to a candidate with n users are divided by n **"
        " target_power. Lower it, also below 0, to recommend more popular items.",
    )
    similarity_power: Positive = Field(
        default=0.7, description="Power of the similarities. Raise it to give the nearest items more weight."
    )
    shrinkage: NotNegative = Field(
        default=0.0,
        description="Shrinkage s: the similarity of two items with n common users is multiplied by n / (n + s)."
        " Raise it if items with few users rank too high.",
    )
    norm_power: NotNegative = Field(
        default=0.0,
        description="Normalization of a candidate's similarities: they are divided by their L2 norm ** norm_power."
        " Raise it if items that resemble many others rank too high.",
    )
    neighbours: Count = Field(
        default=1000,
        description="Maximum number of neighbours of an item. More neighbours cost memory and scoring time.",
    )


class ItemRidge(Section):
    """Ridge regression of each item on its most similar items."""

    user_power: NotNegative = Field(
        default=0.25,
        description="Normalization by user activity: a user with n items has the weight n ** (-2 * user_power) in"
        " the regression. Raise it if very active users dominate.",
    )
    regularization: Positive = Field(
        default=10.0, description="Weight of the L2 regularization (lambda). Raise it if the model overfits."
    )
    target_power: NotNegative = Field(
        default=0.0,
        description="Normalization by popularity: the scores of a candidate with n users are divided by n **"
        " target_power. Raise it to recommend less popular items.",
    )
    neighbours: Annotated[int, Field(ge=1, lt=65_536)] = Field(
        default=200,
        description="Number of similar items in the regression of an item. The time of the fit grows with its cube.",
    )


class UserKnn(Section):
    """User-based k-nearest neighbours (user kNN). Normalization comes before similarity_power."""

    similarity: Literal["cosine", "pearson"] = Field(
        default="cosine",
        description="Similarity of two users. cosine: cosine of their 0/1 item vectors. pearson: correlation of"
        " these vectors over all items.",
    )
    item_power: NotNegative = Field(
        default=0.5,
        description="Normalization by popularity: a common item with n users counts n ** -item_power. Raise it if"
        " popular items dominate.",
    )
    user_power: NotNegative = Field(
        default=0.5,
        description="Normalization by user activity: the similarity of users with n and m items is divided by (n *"
        " m) ** user_power. pearson uses variances instead of n and m.",
    )
    similarity_power: Positive = Field(
        default=1.0, description="Power of the similarities. Raise it to give the nearest users more weight."
    )
    target_power: NotNegative = Field(
        default=0.3,
        description="Normalization by popularity: the scores of a candidate with n users are divided by n **"
        " target_power. Raise it to recommend less popular items.",
    )
    neighbours: Count = Field(default=500, description="Maximum number of neighbours of a user.")
    max_users: Count | None = Field(
        default=None,
        description="Maximum number of users who can be neighbours, chosen by hash. null: all users. Set it if scoring"
        " takes too much time or memory.",
    )


class Svd(Section):
    """Truncated singular value decomposition (SVD) of the normalized user-item matrix."""

    factors: Count = Field(
        default=512, description="Number of singular vectors. More factors keep finer patterns and cost time."
    )
    user_power: NotNegative = Field(
        default=0.3,
        description="Normalization by user activity: the matrix row of a user with n items is divided by n **"
        " user_power.",
    )
    item_power: NotNegative = Field(
        default=0.3,
        description="Normalization by popularity: the matrix column of an item with n users is divided by n **"
        " item_power.",
    )
    singular_power: NotNegative = Field(
        default=0.5, description="Power of the singular values, which weight the factors. 0: equal weights."
    )
    target_power: NotNegative = Field(
        default=0.15,
        description="Popularity boost: the scores of a candidate with n users are multiplied by n ** target_power."
        " Raise it to recommend more popular items.",
    )


class Content(Section):
    """Content-based neighbours: the cosine of the TF-IDF vectors of title, text and categories. Needs paths.items."""

    max_term_share: ShareAboveZero = Field(
        default=0.2,
        description="Maximum share of items with the same term. More frequent terms are dropped. Lower it if the fit is"
        " slow.",
    )
    neighbours: Count = Field(default=50, description="Maximum number of neighbours of an item.")


class Baselines(Section):
    """Item models that need no network."""

    models: list[str] = Field(
        default=[POPULARITY, ALS, ITEM_KNN],
        description="Names of the models to fit, out of the sections below. popularity is required, because it"
        " serves users without history.",
    )
    popularity: Popularity = Popularity()
    als: Als = Als()
    item_knn: ItemKnn = ItemKnn()
    item_ridge: ItemRidge = ItemRidge()
    user_knn: UserKnn = UserKnn()
    svd: Svd = Svd()
    content: Content = Content()
    tasks: Count = Field(
        default=64,
        description="Maximum number of blocks that the interactions are divided into for the fits. There is one"
        " block per core, or one per million interactions if that is more.",
    )

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
