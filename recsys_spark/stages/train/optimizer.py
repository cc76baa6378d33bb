"""AdamW: torch's arithmetic without torch's class, which imports torch's compiler when it is made; that takes 1.8 s of each worker, and nothing here is
compiled by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW:
    """Decoupled weight decay (Loshchilov & Hutter, ICLR 2019) with the usual betas, in one kernel for all parameters.

    Used as those of `torch.optim` are: the rate is `param_groups[0]["lr"]`, and `state_dict()["state"]` has their form.
    """

    def __init__(self, parameters: list[Parameter], *, lr: float = 0.0, weight_decay: float = 0.0):
        self.param_groups: list[dict[str, Any]] = [{"params": parameters, "lr": lr}]
        self.weight_decay = weight_decay
        self.state: dict[int, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters that have a gradient."""
        group = self.param_groups[0]
        moved = [(i, p) for i, p in enumerate(group["params"]) if p.grad is not None]
        for i, parameter in moved:
            if i not in self.state:
                moments = {name: torch.zeros_like(parameter) for name in _MOMENTS}
                self.state[i] = {"step": torch.zeros((), device=parameter.device), **moments}
        states = [self.state[i] for i, _ in moved]
        adamw(
            [p for _, p in moved],
            [p.grad for _, p in moved],
            *([state[name] for state in states] for name in _MOMENTS),
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=group["lr"],
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state, "param_groups": self.param_groups}

    def load_state_dict(self, given: dict[str, Any]) -> None:
        parameters = self.param_groups[0]["params"]
        self.state = {
            i: {name: tensor.to(parameters[i].device) for name, tensor in state.items()}
            for i, state in given["state"].items()
        }


Optimizer = AdamW | torch.optim.SparseAdam
