"""The context that every stage works in: configuration, paths, run date and the Spark session."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_spark.columns import BACKTEST, DROPPED, NETWORK, RELEASE
from recsys_spark.config.config import Config
from recsys_spark.config.load import load
from recsys_spark.errors import RecsysError, RootUnwritable
from recsys_spark.spark.input_files import find
from recsys_spark.storage import manifest
from recsys_spark.storage.layout import Layout

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


@dataclass
class Context:
    """The surroundings of a stage. Contexts that `dataclasses.replace` makes share one Spark session."""

    config: Config
    layout: Layout
    run_date: date
    force: bool = False
    _session: list[SparkSession] = field(default_factory=list)

    @property
    def cutoff(self) -> datetime:
        """Midnight UTC of the run date. Events at or after it belong to a later night."""
        return datetime(self.run_date.year, self.run_date.month, self.run_date.day, tzinfo=timezone.utc)

    def models(self, pass_name: str) -> list[str]:
        """Return the item models of a pass, in order. The release leaves out those that the backtest dropped.

        Until the backtest's score stage is done no model is dropped: an extra model only costs time.
        """
        scored = manifest.current(self.layout, "score", BACKTEST) if pass_name == RELEASE else None
        dropped = scored.counts.get(DROPPED, []) if scored else []
        return [name for name in self.config.models if name not in dropped]

    def fitted(self, pass_name: str) -> list[str]:
        """Return the item models that a pass fits: those of the pass and those that the network's training reads."""
        names = set(self.models(pass_name))
        if NETWORK in names:
            names.update(self.config.train.required_baselines)
        return [name for name in self.config.models if name in names]

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session. The first stage that has work to do starts it."""
        from recsys_spark.spark.session import make_session

        if self._session:
            return self._session[0]
        settings = self.config.session
        clock = time.monotonic()
        session = make_session(
            app_name=settings.app_name,
            master=settings.master,
            shuffle_partitions=settings.shuffle_partitions,
            options=settings.options,
            input_bytes=_size(self.config.paths.events),
            preload=("torch",) if self.config.train.enabled else (),
        )
        log.info("spark: %s, started in %.1f s", session.sparkContext.master, time.monotonic() - clock)
        self._session.append(session)
        return session

    def stop(self) -> None:
        for session in self._session:
            session.stop()


def make_context(
    config: Path, overrides: Iterable[str], *, run_date: date | None, run_id: str | None, force: bool
) -> Context:
    """Return the context of a run. Everything that can be checked before Spark starts is checked here."""
    loaded = load(config, overrides)
    run_date = run_date or today()
    layout = Layout(Path(loaded.paths.root).resolve(), run_id or run_date.isoformat())
    check_writable(layout)
    return Context(loaded, layout, run_date, force)


def today() -> date:
    """Return the date in UTC."""
    return datetime.now(timezone.utc).date()


def check_writable(layout: Layout) -> None:
    """Create the folder of the runs. `RootUnwritable` when it cannot be written."""
    runs = layout.run.parent
    try:
        runs.mkdir(parents=True, exist_ok=True)
        probe = runs / ".probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise RootUnwritable(
            f"paths.root {layout.root} cannot be written: {error.strerror or error}. "
            "Choose another folder or change its permissions"
        ) from error


def _size(path: str) -> int | None:
    """Return the bytes of the raw files at a local path.

    None for a URL, which only Spark can list, and for a path that cannot be read: the clean stage reports that error.
    """
    if "://" in path.removeprefix("file://"):
        return None
    try:
        return sum(file.size for file in find(path, "paths.events", _no_session))
    except RecsysError:
        return None


def _no_session() -> SparkSession:
    raise AssertionError("local files are listed without Spark")
