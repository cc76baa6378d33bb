"""The work of one training worker: read tables, build the network, train it, write the item model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_spark.columns import ITEM_IDX
from recsys_spark.models import base
from recsys_spark.models.item_knn import ItemKnnModel
from recsys_spark.models.svd import SvdModel
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.item_tower import feature_matrix
from recsys_spark.networks.losses import CandidateSampler
from recsys_spark.networks.two_tower import TwoTower
from recsys_spark.stages.train import checkpoint, feed
from recsys_spark.stages.train.job_file import WEIGHTS, Job
from recsys_spark.stages.train.loop import Communicator, train
from recsys_spark.stages.train.plan import Plan, Progress
from recsys_spark.stages.train.validation_set import read_validation_set
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import write_json

HEADS = 2
"""Pooling heads of the encoder `mlp`. The second raises the validation NDCG on MovieLens-1M by 5 %, a third hardly."""


def run_worker(job: Job, communicator: Communicator) -> None:
    """Train as worker `communicator.rank`. Worker 0 writes the item model and then training.json."""
    s, rank, size = job.settings, communicator.rank, communicator.size
    torch.manual_seed(s.seed)
    counts = read_counts(job.features / "item_counts", job.n_items)
    full = job.n_items <= s.full_softmax_items
    network = make_network(job, counts, sparse=not full)
    steps, batch = feed.batch_plan(job.examples, size, s.batch_size)
    # the release takes the number of epochs of the backtest, whatever their time
    seconds = 60 * s.minutes if s.minutes and job.validate else None
    plan = Plan(s, job.epochs, job.decay_epochs, steps, seconds, warm=bool(job.weights))
    progress = train(
        network,
        plan,
        batches=lambda epoch: feed.batches(
            job.features / "examples", rank=rank, size=size, batch=batch, steps=steps, seed=s.seed, epoch=epoch
        ),
        sampler=None if full else CandidateSampler(counts, batch, s.negatives),
        validation_set=read_validation_set(job.features, s.valid_users, rank, size) if job.validate else None,
        communicator=communicator,
        checkpoints=job.checkpoints,
    )
    if rank == 0:
        if job.validate and s.warm_epochs:
            write_weights(job.output / WEIGHTS, network, counts)
        base.save(job.output / NetworkModel.kind, NetworkModel.of(network.cpu()))
        write_json(job.output / "training.json", summary(progress, plan, size))


def make_network(job: Job, counts: torch.Tensor, *, sparse: bool) -> TwoTower:
    """Return the network at its start. `counts` int64 [I] are the training pairs of each item."""
    s = job.settings
    architecture = Architecture(
        n_items=job.n_items,
        n_features=job.n_features,
        history_length=job.history_length,
        dimension=s.dimension,
        hidden=s.hidden,
        heads=HEADS,
        encoder=s.encoder,
        examples=job.kind,
        layers=s.layers,
        attention_heads=s.attention_heads,
    )
    network = TwoTower(architecture, dropout=s.dropout, sparse=sparse)
    network.items.set_features(torch.from_numpy(read_features(job.features / "item_features", job.n_items)))
    network.items.set_popularity(counts, s.temperature)
    if job.start:
        network.items.start_at(*read_start(job.start, s.dimension))
    if job.neighbours:
        network.items.set_neighbours(*read_neighbours(job.neighbours, s.neighbours))
    if job.weights:
        network.start_from(*read_weights(job.weights))
    return network


def summary(progress: Progress, plan: Plan, workers: int) -> dict[str, Any]:
    """Return the content of training.json."""
    return {
        "epochs": progress.epochs,
        "best_epoch": progress.best_epoch,
        "planned_epochs": plan.limited_to(progress.epoch_limit).decay_epochs,
        "workers": workers,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def write_weights(folder: Path, network: TwoTower, counts: torch.Tensor) -> None:
    """Write the weights of `network`, and the training pairs of each item, `counts` int64 [I]."""
    checkpoint.save(folder, {"network": network.state_dict(), "items": {"counts": counts}}, {})


def read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return (weights, bool [I] whether the item had training pairs) of `write_weights`."""
    saved = checkpoint.load(folder)
    if saved is None:
        raise RuntimeError(f"{folder}: the weights of the backtest cannot be read. Train it again with --force")
    groups, _ = saved
    return groups["network"], groups["items"]["counts"] > 0


def read_start(folder: Path, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (vectors float32 [I, D], weights in a history float32 [I]) of the svd model in `folder`.

    The vectors are its first factors, scaled by the square roots of the singular values' weights. Factors that it does
    not have are 0.
    """
    model = base.load(folder, {SvdModel.kind: SvdModel})
    scales = np.sqrt(model.arrays["spectrum"][:dimension])
    vectors = np.zeros((model.n_items, dimension), np.float32)
    vectors[:, : len(scales)] = model.arrays["items"][:, :dimension] * scales
    weights = np.asarray(model.arrays["weights"], np.float32)
    return torch.from_numpy(vectors), torch.from_numpy(weights)


def read_neighbours(folder: Path, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (near int64 [I, n], 0-padded; shares float32 [I, n]) of the item_knn model in `folder`.

    They are the `n` most similar items of each item, and their shares of the sum of the similarities.
    """
    model = base.load(folder, {ItemKnnModel.kind: ItemKnnModel})
    near, similarities = model.nearest(n)
    shares = similarities / np.maximum(similarities.sum(axis=1, keepdims=True), np.float32(1e-30))
    return torch.from_numpy(near.astype(np.int64)), torch.from_numpy(shares)


def read_counts(folder: Path, n_items: int) -> torch.Tensor:
    """Return int64 [I]: the training pairs of each item."""
    table = tables.read_arrow(folder, "item_counts")
    counts = np.zeros(n_items, np.int64)
    counts[table.column(ITEM_IDX).to_numpy()] = table.column("count").to_numpy()
    return torch.from_numpy(counts)


def read_features(folder: Path, n_items: int) -> np.ndarray:
    """Return int64 [I, K]: the items' content features, see `feature_matrix`."""
    table = tables.read_arrow(folder, "item_features").combine_chunks()
    if not table.num_rows:
        return np.zeros((n_items, 0), np.int64)
    lists = table.column("features").chunk(0)
    return feature_matrix(
        n_items, table.column(ITEM_IDX).to_numpy(), np.asarray(lists.offsets), np.asarray(lists.flatten())
    )
