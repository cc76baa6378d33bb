"""Parses the command line that both ALS peers share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("train", type=Path)
    parser.add_argument("out", type=Path)
    for name in ("factors", "iterations"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("regularization", "confidence"):
        parser.add_argument(f"--{name}", type=float, required=True)
    return parser.parse_args()
