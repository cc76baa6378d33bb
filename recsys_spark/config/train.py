"""The section `train`: the network and its training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recsys_spark.columns import ITEM_KNN, SVD
from recsys_spark.config.section import Count, NotNegative, Positive, Section, Seed, ShareBelowOne


class Train(Section):
    """The network: a two-tower model of histories and items."""

    enabled: bool = Field(default=True, description="Whether to train the network. false: only the baselines are used.")
    workers: Count = Field(default=1, description="Number of data-parallel training processes.")
    launcher: Literal["local", "spark"] = Field(
        default="local",
        description="Where the workers run. local: on the driver's machine. spark: in the Spark executors.",
    )
    threads: Count = Field(default=1, description="Number of CPU threads of each worker.")
    encoder: Literal["mlp", "vae", "gru", "lstm", "conv", "attention"] = Field(
        default="mlp",
        description="Network that turns a history into a user vector: a multilayer perceptron, a variational"
        " autoencoder, or a sequence model. All but mlp need features.examples: users.",
    )
    dimension: Count = Field(
        default=64,
        description="Length of the item and user vectors. Longer vectors fit larger catalogues better and cost time.",
    )
    start: Literal["random", "svd"] = Field(
        default="random",
        description="Initial item vectors. svd: the first singular vectors of the baseline svd.",
    )
    neighbours: int = Field(
        default=0,
        ge=0,
        description="Number of similar items whose vectors are added to an item's vector. The baseline item_knn"
        " finds them. 0: none. Raise it if many items have few interactions.",
    )
    hidden: Count = Field(
        default=128, description="Width of the encoder's hidden layers. Not used by conv, whose width is dimension."
    )
    layers: Count = Field(
        default=1, description="gru, lstm: number of recurrent layers. conv, attention: number of residual blocks."
    )
    attention_heads: Count = Field(
        default=1, description="attention: number of heads. dimension must be a multiple of it."
    )
    dropout: ShareBelowOne = Field(
        default=0.1,
        description="Share of history items and hidden units that are dropped in training. Raise it if the network"
        " overfits.",
    )
    kl_weight: NotNegative = Field(
        default=0.2, description="vae: weight of the KL term (beta), raised linearly from 0 over the epochs."
    )
    epochs: Count = Field(
        default=6, description="Maximum number of epochs. The learning rate falls to 0 at the end of the last one."
    )
    warm_epochs: Count | None = Field(
        default=None,
        description="Number of epochs of the release if it starts from the weights of the backtest. null: it starts"
        " from new weights and takes as many epochs as were best in the backtest.",
    )
    minutes: Positive | None = Field(
        default=None,
        description="Maximum time of the backtest's training, in minutes. The first epoch decides how many epochs fit,"
        " two at least. null: no limit.",
    )
    patience: Count = Field(
        default=2, description="Number of epochs without a better validation NDCG after which training stops."
    )
    batch_size: Count = Field(default=1024, description="Number of examples in a batch of each worker.")
    learning_rate: Positive = Field(
        default=0.006, description="Highest learning rate of one worker. It is multiplied by the number of workers."
    )
    warmup_epochs: NotNegative = Field(
        default=0.5, description="Number of epochs in which the learning rate rises linearly to its highest value."
    )
    weight_decay: NotNegative = Field(
        default=0.0,
        description="Weight decay of AdamW. Item embeddings that are trained with sampled negatives have none.",
    )
    temperature: Positive = Field(
        default=0.1,
        description="Temperature of the softmax: cosines of user and item vectors are divided by it. Raise it if the"
        " network overfits.",
    )
    negatives: Count = Field(
        default=512,
        description="Number of uniformly drawn negatives of a batch, in addition to the in-batch negatives.",
    )
    full_softmax_items: int = Field(
        default=5_000,
        ge=0,
        description="Maximum number of items for the full softmax. Larger catalogues use sampled negatives.",
    )
    metric_k: Count = Field(default=10, description="Cutoff k of the validation NDCG that stops the training.")
    valid_users: Count = Field(
        default=20_000, description="Maximum number of users of the validation NDCG, chosen by hash."
    )
    mixed_precision: bool = Field(
        default=True, description="Whether to multiply matrices in bfloat16 on GPUs and CPUs that support it."
    )
    seed: Seed = Field(default=7, description="Seed of the weights, the order of examples and the negatives.")
    timeout_s: Count = Field(
        default=600, description="spark launcher: maximum time to wait for free executor slots, in seconds."
    )

    @property
    def required_baselines(self) -> list[str]:
        """The baselines that the training reads."""
        return [*([SVD] if self.start == SVD else []), *([ITEM_KNN] if self.neighbours else [])]
