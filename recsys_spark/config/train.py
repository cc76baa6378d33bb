"""The section `train`: the network and its training."""

from __future__ import annotations

from typing import Literal

from recsys_spark.columns import ITEM_KNN, SVD
from recsys_spark.config.section import Count, CountOrZero, NotNegative, Positive, Section, Seed, ShareBelowOne


class Train(Section):
    """The network: a two-tower model of histories and items."""

    enabled: bool = True
    """Whether to train the network. false: only the baselines are used."""
    workers: Count = 1
    """Number of data-parallel training processes."""
    launcher: Literal["local", "spark"] = "local"
    """Where the workers run. local: on the driver's machine. spark: in the Spark executors."""
    threads: Count | None = None
    """Number of CPU threads of each worker. null: the machine's cores, shared evenly by the local workers. For the
    launcher spark null is spark.task.cpus."""
    encoder: Literal["mlp", "vae", "gru", "lstm", "conv", "attention"] = "mlp"
    """Network that turns a history into a user vector: a multilayer perceptron, a variational autoencoder, or a
    sequence model. All but mlp need features.examples: users."""
    dimension: Count = 64
    """Length of the item and user vectors. Longer vectors fit larger catalogues better and cost time."""
    start: Literal["random", "svd"] = "random"
    """Initial item vectors. svd: the first singular vectors of the baseline svd."""
    neighbours: CountOrZero = 0
    """Number of similar items whose vectors are added to an item's vector. The baseline item_knn finds them. 0: none.
    Raise it if many items have few interactions."""
    hidden: Count = 128
    """Width of the encoder's hidden layers. Not used by conv, whose width is dimension."""
    layers: Count = 1
    """gru, lstm: number of recurrent layers. conv, attention: number of residual blocks."""
    attention_heads: Count = 1
    """attention: number of heads. dimension must be a multiple of it."""
    dropout: ShareBelowOne = 0.1
    """Share of history items and hidden units that are dropped in training. Raise it if the network overfits."""
    kl_weight: NotNegative = 0.2
    """vae: weight of the KL term (beta), raised linearly from 0 over the epochs."""
    epochs: Count = 6
    """Maximum number of epochs. The learning rate falls to 0 at the end of the last one."""
    warm_epochs: Count | None = None
    """Number of epochs of the release if it starts from the weights of the backtest. null: it starts from new weights
    and takes as many epochs as were best in the backtest."""
    minutes: Positive | None = None
    """Maximum time of the backtest's training, in minutes. The first epoch decides how many epochs fit, two at least.
    null: no limit."""
    patience: Count = 2
    """Number of epochs without a better validation NDCG after which training stops."""
    batch_size: Count = 1024
    """Number of examples in a batch of each worker."""
    learning_rate: Positive = 0.006
    """Highest learning rate of one worker. It is multiplied by the number of workers."""
    warmup_epochs: NotNegative = 0.5
    """Number of epochs in which the learning rate rises linearly to its highest value."""
    weight_decay: NotNegative = 0.0
    """Weight decay of AdamW. Item embeddings that are trained with sampled negatives have none."""
    temperature: Positive = 0.1
    """Temperature of the softmax: cosines of user and item vectors are divided by it. Raise it if the network
    overfits."""
    negatives: Count = 512
    """Number of uniformly drawn negatives of a batch, in addition to the in-batch negatives."""
    full_softmax_items: CountOrZero = 5_000
    """Maximum number of items for the full softmax. Larger catalogues use sampled negatives."""
    metric_k: Count = 10
    """Cutoff k of the validation NDCG that stops the training."""
    valid_users: Count = 20_000
    """Maximum number of users of the validation NDCG, chosen by hash."""
    mixed_precision: bool = True
    """Whether to multiply matrices in bfloat16 on GPUs and CPUs that support it."""
    seed: Seed = 7
    """Seed of the weights, the order of examples and the negatives."""
    timeout_s: Count = 600
    """spark launcher: maximum time to wait for free executor slots, in seconds."""

    @property
    def required_baselines(self) -> list[str]:
        """The baselines that the training reads."""
        return [*([SVD] if self.start == SVD else []), *([ITEM_KNN] if self.neighbours else [])]
