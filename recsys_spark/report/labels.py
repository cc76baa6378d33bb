"""How the report and the command line present a model: its name for people, its plot colour and one sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelLabel:
    label: str
    colour: str
    """Plot colour as a hex code. Colours of different models must differ for colour-blind readers too."""
    sentence: str
    """What the model recommends and from what, in one sentence."""


FUSED_LABEL = ModelLabel(
    "Blend", "#d55e00", "Combines the lists of all models, weighted by their accuracy on the validation set."
)
"""The label of the fused list, which is no model and has no registry entry."""
