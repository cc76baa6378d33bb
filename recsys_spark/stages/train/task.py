"""What one training worker does from its job file to the trained item model: read tables, build the network, train, write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_spark.columns import ITEM_IDX
from recsys_spark.models import base
from recsys_spark.models.item_knn import NeighbourModel
from recsys_spark.models.svd import SpectralModel
from recsys_spark.networks.architecture import Architecture
from recsys_spark.networks.item_model import NetworkModel
from recsys_spark.networks.item_tower import feature_matrix
from recsys_spark.networks.two_tower import TwoTower
from recsys_spark.stages.train import checkpoint, feed
from recsys_spark.stages.train.job_file import WEIGHTS, Job
from recsys_spark.stages.train.loop import Communicator, Plan, Progress, train
from recsys_spark.stages.train.negatives import Candidates
from recsys_spark.stages.train.validation_set import read_held
from recsys_spark.storage import tables
from recsys_spark.storage.manifest import write_json

HEADS = 2
"""Pooling heads of the encoder `mlp`: the second raises valid NDCG by 5 % on MovieLens-1M, a third hardly."""


def run_worker(job: Job, communicator: Communicator) -> None:
    """Train as worker `communicator.rank`; worker 0 writes the item model and then training.json."""
    s, features = job.settings, Path(job.features)
    torch.manual_seed(s["seed"])
    full = job.n_items <= s["full_softmax_items"]
    same = {name: s[name] for name in ("dimension", "hidden", "encoder", "layers", "attention_heads")}
    architecture = Architecture(job.n_items, job.n_features, job.history_length, heads=HEADS, examples=job.kind, **same)
    network = TwoTower(architecture, dropout=s["dropout"], sparse=not full)
    network.items.set_features(torch.from_numpy(read_features(features / "item_features", job.n_items)))
    counts = read_counts(features / "item_counts", job.n_items)
    network.items.set_popularity(counts, s["temperature"])
    if job.start:
        network.items.start_at(*read_start(Path(job.start), s["dimension"]))
    if job.neighbours:
        network.items.set_neighbours(*read_neighbours(Path(job.neighbours), s["neighbours"]))
    if job.weights:
        network.start_from(*read_weights(Path(job.weights)))
    steps, batch = feed.batch_plan(job.examples, communicator.size, s["batch_size"])
    plan = make_plan(job, steps)
    progress = train(
        network,
        plan,
        batches=lambda epoch: feed.batches(
            features / "examples",
            rank=communicator.rank,
            size=communicator.size,
            batch=batch,
            steps=steps,
            seed=s["seed"],
            epoch=epoch,
        ),
        candidates=None if full else Candidates(counts, batch, s["negatives"]),
        held=read_held(features, s["valid_users"], communicator.rank, communicator.size) if job.validate else None,
        communicator=communicator,
        checkpoints=Path(job.checkpoints),
    )
    if communicator.rank == 0:
        if job.validate and s["warm_epochs"]:
            write_weights(Path(job.output) / WEIGHTS, network, counts)
        base.save(Path(job.output) / NetworkModel.kind, NetworkModel.of(network.cpu()))
        write_json(Path(job.output) / "training.json", summary(progress, plan, communicator.size))


def make_plan(job: Job, steps: int) -> Plan:
    """The plan of a pass, out of the config's train section."""
    s = job.settings
    same = (
        "patience",
        "learning_rate",
        "warmup_epochs",
        "weight_decay",
        "temperature",
        "kl_weight",
        "metric_k",
        "mixed_precision",
        "seed",
    )
    return Plan(
        epochs=job.epochs,
        decay_epochs=job.decay_epochs,
        warm=bool(job.weights),
        # the release does as much as the backtest found best
        seconds=60 * s["minutes"] if s["minutes"] and job.validate else None,
        steps=steps,
        **{name: s[name] for name in same},
    )


def summary(progress: Progress, plan: Plan, workers: int) -> dict[str, Any]:
    """The content of training.json."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "epochs": progress.epochs,
        "best_epoch": progress.best_epoch,
        "planned_epochs": progress.within(plan).decay_epochs,
        "workers": workers,
        "device": device,
    }


def write_weights(folder: Path, network: TwoTower, counts: torch.Tensor) -> None:
    """Keep the weights of `network`, trained on `counts` pairs of each item, int64 [I]."""
    checkpoint.save(folder, {"network": network.state_dict(), "items": {"counts": counts}}, {})


def read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What `write_weights` kept: (weights, bool [I] whether the item was trained on)."""
    found = checkpoint.load(folder)
    if found is None:
        raise RuntimeError(f"{folder}: the backtest's weights cannot be read; train it again with --force")
    groups, _ = found
    return groups["network"], groups["items"]["counts"] > 0


def read_start(folder: Path, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(vectors float32 [I, D], what each weighs in a history float32 [I]) of the svd model in `folder`: its first factors, each of whose
    strengths goes to users and items by halves; 0 for factors that it does not have."""
    model = base.load(folder, {SpectralModel.kind: SpectralModel})
    spectrum = np.sqrt(model.arrays["spectrum"][:dimension])
    vectors = np.zeros((model.n_items, dimension), np.float32)
    vectors[:, : len(spectrum)] = model.arrays["items"][:, :dimension] * spectrum
    weights = np.asarray(model.arrays["weights"], np.float32)
    return torch.from_numpy(vectors), torch.from_numpy(weights)


def read_neighbours(folder: Path, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(near int64 [I, most], 0-padded · shares float32 [I, most]) of the item_knn model in `folder`: of each item the `most` that are most similar by
    (-similarity, item), each with its share of their similarities."""
    model = base.load(folder, {NeighbourModel.kind: NeighbourModel})
    near, similarities = model.nearest(most)
    shares = similarities / np.maximum(similarities.sum(axis=1, keepdims=True), np.float32(1e-30))
    return torch.from_numpy(near.astype(np.int64)), torch.from_numpy(shares)


def read_counts(folder: Path, n_items: int) -> torch.Tensor:
    """int64 [I] training pairs of each item."""
    table = tables.read_arrow(folder, "item_counts")
    counts = np.zeros(n_items, np.int64)
    counts[table.column(ITEM_IDX).to_numpy()] = table.column("count").to_numpy()
    return torch.from_numpy(counts)


def read_features(folder: Path, n_items: int) -> np.ndarray:
    """int64 [I, K] matrix of the items' content features."""
    table = tables.read_arrow(folder, "item_features").combine_chunks()
    if not table.num_rows:
        return np.zeros((n_items, 0), np.int64)
    lists = table.column("features").chunk(0)
    return feature_matrix(
        n_items, table.column(ITEM_IDX).to_numpy(), np.asarray(lists.offsets), np.asarray(lists.flatten())
    )
