"""The training loop in plain torch. The same code trains alone on one core and data-parallel on many machines.

Its surroundings are two interfaces: `batches(epoch)`, which yields the epoch's batches, and a `Communicator`.

Shapes:  B examples of a batch · L history window
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from recsys_spark.networks.losses import CandidateSampler, full_softmax, sampled_softmax
from recsys_spark.networks.two_tower import TwoTower
from recsys_spark.stages.train import checkpoint
from recsys_spark.stages.train.plan import Plan, Progress
from recsys_spark.stages.train.validation import ndcg_sum

if TYPE_CHECKING:
    from recsys_spark.stages.train.validation_set import ValidationSet

log = logging.getLogger(__name__)

Examples = dict[str, Tensor]
"""item_idx int32 [B] · history int32 [B, L] · recency int32 [B, L]"""


class Communicator:
    """What the loop needs from the group of workers. This one is a single worker."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1
    """Number of workers on this machine."""

    def allreduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all workers."""
        return values

    def broadcast(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite every worker's tensors with those of worker 0."""

    def average_gradients(self, parameters: list[Parameter]) -> None:
        """Replace the gradients of `parameters` by their means over all workers. Sparse ones stay sparse.

        The same parameters must have a gradient on all workers.
        """


def train(
    network: TwoTower,
    plan: Plan,
    *,
    batches: Callable[[int], Iterator[Examples]],
    sampler: CandidateSampler | None,
    validation_set: ValidationSet | None,
    communicator: Communicator,
    checkpoints: Path,
) -> Progress:
    """Train `network` in place, from the checkpoint if there is one. It ends with the weights of the best epoch.

    `sampler` None: the full softmax. `validation_set` None: the last epoch is the best. Worker 0 writes checkpoints.
    """
    device = choose_device(communicator.local_rank, communicator.local_size)
    network.to(device)
    optimizers = make_optimizers(network, plan)
    progress, best = _resume(network, optimizers, communicator, checkpoints)
    plan = plan.limited_to(progress.epoch_limit)
    while not progress.done(plan):
        epoch, clock = len(progress.epochs) + 1, time.monotonic()
        entry = _epoch(network, plan, epoch, batches(epoch), optimizers, sampler, communicator, device)
        entry["ndcg"] = _validate(network, plan, validation_set, communicator, device)
        if epoch == 1:
            progress.epoch_limit = _limit(plan, time.monotonic() - clock, communicator)
            plan = plan.limited_to(progress.epoch_limit)
        if progress.add(entry):
            best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        if communicator.rank == 0:
            states = {f"optimizer{i}": checkpoint.optimizer_tensors(o) for i, o in enumerate(optimizers)}
            checkpoint.save(checkpoints, {"network": network.state_dict(), "best": best, **states}, asdict(progress))
            log.info(_line(entry, plan))
    network.load_state_dict(best)
    return progress


def _limit(plan: Plan, seconds: float, communicator: Communicator) -> int | None:
    """Return how many epochs fit into the plan's time by the first one's `seconds`. Worker 0's clock counts."""
    mine = torch.tensor([seconds if communicator.rank == 0 else 0.0])
    limit = plan.epochs_in_time(float(communicator.allreduce_sum(mine)))
    if limit and communicator.rank == 0:
        log.info("%d of %d epochs fit into %g minutes", limit, plan.epochs, (plan.seconds or 0) / 60)
    return limit


def choose_device(local_rank: int, local_size: int) -> torch.device:
    """Return the worker's own GPU, or the CPU of a machine without GPUs. NCCL refuses two workers on one GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_size > torch.cuda.device_count():
        raise RuntimeError(
            f"this machine has {local_size} training workers but only {torch.cuda.device_count()} GPUs. "
            "Each worker needs its own GPU: set train.workers to fewer"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    # the same result in every run, as on a CPU; cuDNN's attention alone warns that it cannot
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # nothing reads new memory, and filling it would take half of a step's kernels
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16. A CPU without them is faster with float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def make_optimizers(network: TwoTower, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return AdamW for all parameters, but SparseAdam for the item table if its gradients are sparse."""
    table = network.items.ids.weight
    dense = [p for p in network.parameters() if not (network.sparse and p is table)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(dense, weight_decay=plan.settings.weight_decay, fused=True)
    ]
    return [*optimizers, torch.optim.SparseAdam([table])] if network.sparse else optimizers


def _resume(
    network: TwoTower, optimizers: list[torch.optim.Optimizer], communicator: Communicator, checkpoints: Path
) -> tuple[Progress, dict[str, Tensor]]:
    """Return the progress and the best weights of the last checkpoint, and load it into network and optimizers."""
    saved = checkpoint.load(checkpoints)
    progress, best = Progress(), {}
    if saved:
        groups, state = saved
        progress, best = Progress(**state), groups["best"]
        network.load_state_dict(groups["network"])
        for i, optimizer in enumerate(optimizers):
            checkpoint.restore_optimizer(optimizer, groups[f"optimizer{i}"])
        log.info("training goes on after epoch %d", len(progress.epochs))
    all_epochs = communicator.allreduce_sum(torch.tensor([float(len(progress.epochs))]))
    if float(all_epochs) != len(progress.epochs) * communicator.size:
        raise RuntimeError(
            f"{checkpoints}: the workers read different checkpoints. paths.root must be the same tree on every machine"
        )
    communicator.broadcast({name: p.data for name, p in network.named_parameters()})
    return progress, best


def _epoch(
    network: TwoTower,
    plan: Plan,
    epoch: int,
    batches: Iterator[Examples],
    optimizers: list[torch.optim.Optimizer],
    sampler: CandidateSampler | None,
    communicator: Communicator,
    device: torch.device,
) -> dict[str, Any]:
    """Train one epoch. Return its entry of training.json without the NDCG.

    The loss is the weighted mean over the targets of all workers.
    """
    clock = time.monotonic()
    # every epoch has its own seed, so that a resumed training draws what an uninterrupted one draws
    seed = ((plan.settings.seed * 1_000_003 + epoch) * 1_000_003 + communicator.rank) % (1 << 63)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    network.train()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    rate, n_examples = 0.0, 0
    for step, examples in enumerate(batches):
        at = epoch - 1 + (step + 1) / plan.steps
        rate = plan.learning_rate(at, communicator.size)
        loss, weight = _loss(network, plan, at, _to_device(examples, device), sampler, generator)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
        loss.backward()
        communicator.average_gradients(list(network.parameters()))
        for optimizer in optimizers:
            optimizer.step()
        n = len(examples["item_idx"])
        n_examples += n
        sums += torch.stack([loss.detach().double() * n, weight.double()])
    total, weights = communicator.allreduce_sum(sums.cpu()).tolist()
    seconds = time.monotonic() - clock
    return {
        "epoch": epoch,
        "loss": total / weights,
        "learning_rate": rate,
        "seconds": round(seconds, 3),
        "examples_per_s": round(n_examples * communicator.size / seconds),
    }


def _to_device(examples: Examples, device: torch.device) -> Examples:
    """Return the examples on the device. Pinned memory is copied while the step before is computed."""
    if device.type == "cpu":
        return examples
    return {name: values.pin_memory().to(device, non_blocking=True) for name, values in examples.items()}


def _loss(
    network: TwoTower,
    plan: Plan,
    at: float,
    examples: Examples,
    sampler: CandidateSampler | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return (loss after `at` epochs, divided by the number of examples, which is the same on all workers; weight of
    the targets)."""
    batch = network.users.training_batch(examples["history"], examples["recency"], examples["item_idx"])
    n, device = len(examples["item_idx"]), batch.weights.device
    weights, temperature = batch.weights / n, plan.settings.temperature
    half = plan.settings.mixed_precision and multiplies_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        drawn = sampler.draw(batch.targets, generator) if sampler else None
        encoded = network(batch, drawn[0] if drawn else None)
        inputs = encoded.users, encoded.items, encoded.biases, batch.rows, encoded.targets, weights, temperature
        loss = sampled_softmax(*inputs, encoded.candidates, drawn[1]) if drawn else full_softmax(*inputs)
    return loss + plan.kl_weight(at) * encoded.divergence / n, batch.weights.sum()


def _validate(
    network: TwoTower,
    plan: Plan,
    validation_set: ValidationSet | None,
    communicator: Communicator,
    device: torch.device,
) -> float | None:
    """Return the mean NDCG over the users of all workers, or None if there is no such user."""
    if validation_set is None:
        return None
    sums = torch.tensor(ndcg_sum(network, validation_set, plan.settings.metric_k, device), dtype=torch.float64)
    total, users = communicator.allreduce_sum(sums).tolist()
    return total / users if users else None


def _line(entry: dict[str, Any], plan: Plan) -> str:
    ndcg = "" if entry["ndcg"] is None else f", validation ndcg@{plan.settings.metric_k} {entry['ndcg']:.4f}"
    speed = f"{entry['examples_per_s']:,} examples/s, {entry['seconds']:.1f} s"
    return f"epoch {entry['epoch']}/{plan.epochs}: loss {entry['loss']:.4f}{ndcg}, {speed}"
