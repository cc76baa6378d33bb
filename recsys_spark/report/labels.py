"""The label of a model for people: its name, its plot colour and one sentence. The registry has one for each model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelLabel:
    label: str
    colour: str
    """Plot colour as a hex code. Colour-blind readers must be able to tell it from those of the other models."""
    sentence: str
    """What the model recommends and from what, in one sentence."""


FUSED_LABEL = ModelLabel(
    "Blend", "#d55e00", "Combines the lists of all models, weighted by their accuracy on the validation set."
)
"""The label of the fused list, which is no model and has no registry entry."""
