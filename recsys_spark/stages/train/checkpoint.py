"""Checkpoints: everything a killed training goes on from, in one safetensors file that is replaced by one rename.

Tensors are the file's tensors; everything else is JSON in its header. No state of a random generator is kept, because each epoch seeds its own.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_spark.stages.train.optimizer import Optimizer

log = logging.getLogger(__name__)

FILE = "last.safetensors"
_STATE = "state"


def save(folder: Path, groups: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder` by named groups of tensors and a JSON `state`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    temporary = folder / f".{FILE}.{os.getpid()}"
    # save_file refuses tensors that share memory; clones of a model's state never do
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()},
        temporary,
        metadata={_STATE: json.dumps(state)},
    )
    temporary.replace(folder / FILE)


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What `save` wrote, or None when there is nothing that can be read: training then starts afresh."""
    path = folder / FILE
    if not path.exists():
        return None
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                group, _, rest = name.partition("/")
                groups.setdefault(group, {})[rest] = file.get_tensor(name)
            return groups, json.loads(file.metadata()[_STATE])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        log.warning("checkpoint %s cannot be read (%s); training starts afresh", path, error)
        return None


def read_state(folder: Path) -> dict[str, Any] | None:
    """The `state` that `save` wrote last, without its tensors; None when there is none."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            return dict(json.loads(file.metadata()[_STATE]))
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        return None


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors named `parameter/key`; plain numbers (step counts) as float64 scalars."""
    flat = {}
    for parameter, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            flat[f"{parameter}/{key}"] = (
                value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            )
    return flat


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give `optimizer` the state that `optimizer_tensors` took from one of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition("/")
        number = tensor.dtype == torch.float64 and tensor.dim() == 0
        state.setdefault(int(parameter), {})[key] = int(tensor) if number else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
