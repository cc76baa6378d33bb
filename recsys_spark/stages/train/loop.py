"""The training loop, in plain torch: the same code trains alone on one core and data-parallel on many machines.

It meets its surroundings through two faces only: `batches(epoch)`, which yields the epoch's batches, and a `Communicator`.

Shapes:  B examples of a batch · L history window
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from recsys_spark.networks.losses import full_softmax, sampled_softmax
from recsys_spark.networks.two_tower import TwoTower
from recsys_spark.stages.train import checkpoint
from recsys_spark.stages.train.negatives import Candidates
from recsys_spark.stages.train.optimizer import AdamW, Optimizer
from recsys_spark.stages.train.validation import ndcg_sum

if TYPE_CHECKING:
    from recsys_spark.stages.train.validation_set import Held

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
"""item_idx int32 [B] · history int32 [B, L] · recency int32 [B, L]"""


@dataclass(frozen=True)
class Plan:
    """How to train: at most `epochs` of `steps` steps each, and of these as many as fit into `seconds`; `warm` says that the network is trained already.
    The other names are those of the config's train section."""

    epochs: int
    seconds: float | None
    patience: int
    steps: int
    learning_rate: float
    warmup_epochs: float
    decay_epochs: int
    warm: bool
    weight_decay: float
    temperature: float
    kl_weight: float
    metric_k: int
    mixed_precision: bool
    seed: int


@dataclass
class Progress:
    """What is known after an epoch; the best epoch is the last one when nothing is validated."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_ndcg: float = -math.inf
    affordable: int | None = None
    """Epochs that fit into the plan's seconds, where those are fewer than it has."""

    def within(self, plan: Plan) -> Plan:
        """The plan, cut to the epochs that fit: the learning rate falls to nothing at their end."""
        n = self.affordable
        return replace(plan, epochs=n, decay_epochs=n) if n else plan

    def add(self, entry: dict[str, Any]) -> bool:
        """Note an epoch; True when it is the best so far."""
        self.epochs.append(entry)
        if entry["ndcg"] is not None and entry["ndcg"] <= self.best_ndcg:
            return False
        self.best_epoch, self.best_ndcg = (
            entry["epoch"],
            -math.inf if entry["ndcg"] is None else entry["ndcg"],
        )
        return True

    def done(self, plan: Plan) -> bool:
        return len(self.epochs) >= plan.epochs or len(self.epochs) - self.best_epoch >= plan.patience


class Communicator:
    """What the loop asks of the group of workers; this one is a worker on its own."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1
    """Workers on this machine."""

    def allreduce_sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all workers."""
        return values

    def broadcast(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite every worker's tensors by those of worker 0."""

    def average(self, parameters: list[Parameter]) -> None:
        """Give every worker's `parameters` the means of their gradients; on all workers the same parameters in the same order have one. Sparse ones stay
        sparse."""


def train(
    network: TwoTower,
    plan: Plan,
    *,
    batches: Callable[[int], Iterator[Batch]],
    candidates: Candidates | None,
    held: Held | None,
    communicator: Communicator,
    checkpoints: Path,
) -> Progress:
    """Train `network` in place, from the checkpoint if there is one; it ends with the weights of the best epoch.

    `candidates` None means the full softmax. `held` None means that nothing is validated, so the last epoch is the best one. Worker 0 alone
    writes checkpoints.
    """
    device = choose_device(communicator.local_rank, communicator.local_size)
    network.to(device)
    optimizers = make_optimizers(network, plan)
    progress, best = _resume(network, optimizers, communicator, checkpoints)
    plan = progress.within(plan)
    while not progress.done(plan):
        epoch, clock = len(progress.epochs) + 1, time.monotonic()
        entry = _epoch(network, plan, epoch, batches(epoch), optimizers, candidates, communicator, device)
        entry["ndcg"] = _validate(network, plan, held, communicator, device)
        if epoch == 1 and plan.seconds:
            progress.affordable = affordable(plan, time.monotonic() - clock, communicator)
            plan = progress.within(plan)
        if progress.add(entry):
            best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        if communicator.rank == 0:
            groups = {
                f"optimizer{i}": checkpoint.optimizer_tensors(optimizer) for i, optimizer in enumerate(optimizers)
            }
            checkpoint.save(checkpoints, {"network": network.state_dict(), "best": best, **groups}, asdict(progress))
            log.info(_line(entry, plan))
    network.load_state_dict(best)
    return progress


def affordable(plan: Plan, first: float, communicator: Communicator) -> int | None:
    """How many epochs fit into the plan's seconds where the `first` took so many, two at least; None where all do. What worker 0 has seen counts."""
    mine = first if communicator.rank == 0 else 0.0
    fit = max(2, int((plan.seconds or math.inf) / float(communicator.allreduce_sum(torch.tensor([mine])))))
    if fit >= plan.epochs:
        return None
    if communicator.rank == 0:
        log.info(f"{fit} of {plan.epochs} epochs fit into {(plan.seconds or 0) / 60:g} minutes")
    return fit


def choose_device(local_rank: int, local_size: int) -> torch.device:
    """The worker's own GPU, or the CPU on a machine without any; NCCL refuses two workers on one GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_size > torch.cuda.device_count():
        raise RuntimeError(
            f"{local_size} training workers on a machine of {torch.cuda.device_count()} GPUs; give each its own (docs/operations/cluster.md)"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    # the same bits each time, as on a CPU: sums whose order is no matter of chance. cuDNN's attention alone warns that it cannot
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # nobody reads new memory, and half of a step's kernels would be spent on filling it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; a CPU without them is slower with bfloat16 than with float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def make_optimizers(network: TwoTower, plan: Plan) -> list[Optimizer]:
    """AdamW for all, but SparseAdam for the item table when its gradients are sparse."""
    table = network.items.ids.weight
    rest = [p for p in network.parameters() if not (network.sparse and p is table)]
    optimizers: list[Optimizer] = [AdamW(rest, weight_decay=plan.weight_decay)]
    return [*optimizers, torch.optim.SparseAdam([table])] if network.sparse else optimizers


def learning_rate(plan: Plan, at: float, workers: int) -> float:
    """The rate after `at` epochs, for any number of workers: a linear rise over warmup_epochs, then a linear fall to nothing at the end of
    `decay_epochs`. The release, which may stop before, goes the same way as the backtest."""
    rise = at / plan.warmup_epochs if plan.warmup_epochs else 1.0
    fall = (plan.decay_epochs - at) / max(plan.decay_epochs - plan.warmup_epochs, 1e-9)
    return plan.learning_rate * workers * max(min(rise, fall, 1.0), 0.0)


def divergence_weight(plan: Plan, at: float) -> float:
    """What a nat of divergence counts after `at` epochs: it rises linearly to kl_weight at the end of `decay_epochs`,
    but in a network that is trained already is there from the start."""
    return plan.kl_weight * (1.0 if plan.warm else min(at / plan.decay_epochs, 1.0))


def _resume(
    network: TwoTower, optimizers: list[Optimizer], communicator: Communicator, checkpoints: Path
) -> tuple[Progress, dict[str, Tensor]]:
    found = checkpoint.load(checkpoints)
    progress, best = Progress(), {}
    if found:
        groups, state = found
        progress, best = Progress(**state), groups["best"]
        network.load_state_dict(groups["network"])
        for i, optimizer in enumerate(optimizers):
            checkpoint.restore_optimizer(optimizer, groups[f"optimizer{i}"])
        log.info("training goes on after epoch %d", len(progress.epochs))
    everyone = communicator.allreduce_sum(torch.tensor([float(len(progress.epochs))]))
    if float(everyone) != len(progress.epochs) * communicator.size:
        raise RuntimeError(
            f"the workers do not see the same checkpoint at {checkpoints}; paths.root must be one tree for all of them"
        )
    communicator.broadcast({name: p.data for name, p in network.named_parameters()})
    return progress, best


def _epoch(
    network: TwoTower,
    plan: Plan,
    epoch: int,
    batches: Iterator[Batch],
    optimizers: list[Optimizer],
    candidates: Candidates | None,
    communicator: Communicator,
    device: torch.device,
) -> dict[str, Any]:
    """One pass; returns its entry of training.json but for the NDCG. The loss is the mean over the targets of all workers by their weights."""
    clock = time.monotonic()
    # every epoch seeds its own randomness, so that a resumed training draws what an uninterrupted one draws
    seed = ((plan.seed * 1_000_003 + epoch) * 1_000_003 + communicator.rank) % (1 << 63)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    network.train()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    rate, examples = 0.0, 0
    for step, batch in enumerate(batches):
        at = epoch - 1 + (step + 1) / plan.steps
        rate = learning_rate(plan, at, communicator.size)
        loss, weight = _loss(
            network,
            plan,
            at,
            _moved(batch, device),
            candidates,
            generator,
        )
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
        loss.backward()
        communicator.average(list(network.parameters()))
        for optimizer in optimizers:
            optimizer.step()
        n = len(batch["item_idx"])
        examples += n
        sums += torch.stack([loss.detach().double() * n, weight.double()])
    total, weights = communicator.allreduce_sum(sums.cpu()).tolist()
    seconds = time.monotonic() - clock
    return {
        "epoch": epoch,
        "loss": total / weights,
        "learning_rate": rate,
        "seconds": round(seconds, 3),
        "examples_per_s": round(examples * communicator.size / seconds),
    }


def _moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device. Only what lies in pinned memory goes there beside the step before."""
    if device.type == "cpu":
        return batch
    return {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.items()}


def _loss(
    network: TwoTower,
    plan: Plan,
    at: float,
    batch: Batch,
    candidates: Candidates | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(loss of the batch after `at` epochs, over its examples: their number is the same for all workers · weight of its targets)"""
    questions = network.users.questions(batch["history"], batch["recency"], batch["item_idx"])
    weights = questions.weights / len(batch["item_idx"])
    device = weights.device.type
    halves = plan.mixed_precision and multiplies_bfloat16(weights.device)
    with torch.autocast(device, torch.bfloat16, enabled=halves):
        drawn = candidates.draw(questions.targets, generator) if candidates else None
        found = network(questions, drawn[0] if drawn else None)
        asked = (found.users, found.items, found.biases, questions.rows, found.targets, weights)
        if drawn:
            loss = sampled_softmax(*asked, plan.temperature, found.candidates, drawn[1])
        else:
            loss = full_softmax(*asked, plan.temperature)
    divergence = found.divergence / len(batch["item_idx"])
    return loss + divergence_weight(plan, at) * divergence, questions.weights.sum()


def _validate(
    network: TwoTower, plan: Plan, held: Held | None, communicator: Communicator, device: torch.device
) -> float | None:
    """Mean NDCG over the users of all workers; None when there is none to ask."""
    if held is None:
        return None
    sums = communicator.allreduce_sum(torch.tensor(ndcg_sum(network, held, plan.metric_k, device), dtype=torch.float64))
    return float(sums[0] / sums[1]) if float(sums[1]) else None


def _line(entry: dict[str, Any], plan: Plan) -> str:
    ndcg = "" if entry["ndcg"] is None else f", valid ndcg@{plan.metric_k} {entry['ndcg']:.4f}"
    return f"epoch {entry['epoch']}/{plan.epochs}: loss {entry['loss']:.4f}{ndcg}, {entry['examples_per_s']:,} examples/s, {entry['seconds']:.1f} s"
