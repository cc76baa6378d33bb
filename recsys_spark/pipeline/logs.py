"""The log of a job on stderr."""

from __future__ import annotations

import logging
import sys


def start_logging(debug: bool) -> None:
    """Show this package's messages, and only the warnings of other packages."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("recsys_spark").setLevel(logging.DEBUG if debug else logging.INFO)
