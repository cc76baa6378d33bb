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
        description="Exponent (nu) of a user's or item's number of interactions, which multiplies the regularization."
        " 0: the same regularization for all.",
    )
    confidence: Positive = Field(
        default=1.0,
        description="Confidence in interactions (alpha): an interaction counts 1 + alpha * weight. Lower it if weights"
        " say little, such as repeated purchases of staples.",
    )
    unobserved_weight: Positive = Field(
        default=1.0, description="Weight of the user-item pairs without an interaction. Lower it for sparse logs."
    )
    seed: Seed = Field(default=7, description="Seed of the initial vectors.")


class ItemKnn(Section):
    """Item-based k-nearest neighbours (item kNN), by the cosine of the items' users."""

    user_power: NotNegative = Field(
        default=0.5,
        description="Exponent of a user's number of items, which divides the user's share in a similarity. Higher"
        " values reduce the influence of very active users.",
    )
    source_power: NotNegative = Field(
        default=0.6,
        description="Exponent of the history item's number of users, which divides its similarities. Higher values"
        " reduce the influence of popular history items.",
    )
    target_power: Annotated[float, Field(ge=-2)] = Field(
        default=0.4,
        description="Exponent of the candidate's number of users, which divides its similarities. Lower values"
        " recommend more popular items, also below 0.",
    )
    similarity_power: Positive = Field(
        default=0.7, description="Exponent of the similarities. Higher values let the nearest items dominate."
    )
    shrinkage: NotNegative = Field(
        default=0.0,
        description="Number s of users in n / (n + s), which multiplies the similarity of two items with n common"
        " users. Raise it if items with few users rank too high.",
    )
    norm_power: NotNegative = Field(
        default=0.0,
        description="Exponent of the norm of a candidate's similarities, which divides them. Higher values lower items"
        " that resemble many others a little.",
    )
    neighbours: Count = Field(
        default=1000, description="Maximum number of neighbours of an item. More cost memory and scoring time."
    )


class ItemRidge(Section):
    """Ridge regression of each item on its most similar items."""

    user_power: NotNegative = Field(
        default=0.25,
        description="Exponent of a user's number of items, whose square divides the user's weight in the regression."
        " Higher values reduce the influence of very active users.",
    )
    regularization: Positive = Field(
        default=10.0, description="Weight of the L2 regularization (lambda). Raise it if the model overfits."
    )
    target_power: NotNegative = Field(
        default=0.0,
        description="Exponent of the candidate's number of users, which divides its scores. Higher values recommend"
        " less popular items.",
    )
    neighbours: Annotated[int, Field(ge=1, lt=65_536)] = Field(
        default=200,
        description="Number of similar items in the regression of an item. The fit costs time cubically.",
    )


class UserKnn(Section):
    """User-based k-nearest neighbours (user kNN)."""

    similarity: Literal["cosine", "pearson"] = Field(
        default="cosine",
        description="Similarity of two users. cosine: of their 0/1 item vectors. pearson: correlation of these vectors"
        " over all items.",
    )
    item_power: NotNegative = Field(
        default=0.5,
        description="Exponent of an item's number of users, which divides the item's weight in a similarity. Higher"
        " values reduce the influence of popular items.",
    )
    user_power: NotNegative = Field(
        default=0.5,
        description="Exponent of a user's number of items (pearson: of the user's variance), which divides the"
        " similarities. Higher values favour neighbours with few items.",
    )
    similarity_power: Positive = Field(
        default=1.0, description="Exponent of the similarities. Higher values let the nearest users dominate."
    )
    target_power: NotNegative = Field(
        default=0.3,
        description="Exponent of the candidate's number of users, which divides its scores. Higher values recommend"
        " less popular items.",
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
        default=0.3, description="Exponent of a user's number of items, which divides the user's row of the matrix."
    )
    item_power: NotNegative = Field(
        default=0.3, description="Exponent of an item's number of users, which divides the item's column of the matrix."
    )
    singular_power: NotNegative = Field(
        default=0.5, description="Exponent of the singular values, which weight the factors. 0: equal weights."
    )
    target_power: NotNegative = Field(
        default=0.15,
        description="Exponent of the candidate's number of users, which multiplies its scores. Higher values recommend"
        " more popular items.",
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
        description="Names of the models to fit: sections of this section. popularity is required, because it serves"
        " users without history.",
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
        description="Maximum number of blocks of the interactions while models are fitted. There is one block per core,"
        " or one per million interactions if that is more.",
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
