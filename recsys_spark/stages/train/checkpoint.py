"""Checkpoints: everything that a killed training continues from, in one safetensors file that one rename replaces.

Tensors are the file's tensors, everything else is JSON in its header. There is no state of a random generator, because
every epoch has its own seed.
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

log = logging.getLogger(__name__)

FILE = "last.safetensors"
_STATE = "state"
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError)


def save(folder: Path, groups: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder` by named groups of tensors and a JSON `state`."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    # clones, because save_file refuses tensors that share memory
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    save_file(tensors, temporary, metadata={_STATE: json.dumps(state)})
    temporary.replace(folder / FILE)


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Return the groups and the state of the checkpoint, or None if there is none that can be read."""
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
    except _UNREADABLE as error:
        log.warning("%s: the checkpoint cannot be read (%s). Training starts from the beginning", path, error)
        return None


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of the checkpoint without reading its tensors, or None if there is none."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            return dict(json.loads(file.metadata()[_STATE]))
    except _UNREADABLE:
        return None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors named `parameter/key`. Step counts are float64 scalars."""
    return {
        f"{parameter}/{key}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for parameter, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what `optimizer_tensors` returned for an optimizer of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition("/")
        number = tensor.dtype == torch.float64 and tensor.dim() == 0
        state.setdefault(int(parameter), {})[key] = int(tensor) if number else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
