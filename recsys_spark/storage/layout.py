"""Every path under `paths.root`, built in one place. No other module joins path names of the house.

runs/<run_id>/clean/…                         the clean stage serves both passes
runs/<run_id>/<backtest|release>/<stage>/…    one folder a stage: tables, item models, manifest.json
runs/<run_id>/report.html
index/users · index/items                     dense ids, carried from night to night
top_n/                                        the published Delta table
tune/                                         settings searches

A settings search has a root of its own, with one run in it, and beside that: study.db study.json best.yaml importance.png
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"
SHARED_STAGES = frozenset({"clean"})


@dataclass(frozen=True)
class Layout:
    """Paths of one run. `root` must be visible under the same name from the driver, the executors and the trainers."""

    root: Path
    run_id: str

    @property
    def run(self) -> Path:
        return self.root / "runs" / self.run_id

    @property
    def report(self) -> Path:
        return self.run / "report.html"

    @property
    def lock(self) -> Path:
        return self.root / "runs" / f".{self.run_id}.lock"

    @property
    def user_index(self) -> Path:
        return self.root / "index" / "users"

    @property
    def item_index(self) -> Path:
        return self.root / "index" / "items"

    @property
    def top_n(self) -> Path:
        return self.root / "top_n"

    def stage(self, stage: str, pass_name: str) -> Path:
        """Folder of a stage in a pass; the clean stage has one for both."""
        return self.run / stage if stage in SHARED_STAGES else self.run / pass_name / stage

    def table(self, stage: str, pass_name: str, table: str) -> Path:
        """Folder of a table or an item model that `stage` writes."""
        return self.stage(stage, pass_name) / table

    def manifest(self, stage: str, pass_name: str) -> Path:
        return self.stage(stage, pass_name) / MANIFEST


@dataclass(frozen=True)
class StudyLayout(Layout):
    """Paths of a settings search: `root` is its folder, the stages that it needs are run once in it."""

    run_id: str = "study"

    @classmethod
    def under(cls, root: Path, models: Iterable[str]) -> StudyLayout:
        """The search for settings of `models`, in the root of the nights."""
        return cls((root / "tune" / "+".join(models)).resolve())

    @property
    def trials(self) -> Path:
        """The SQLite file of all trials."""
        return self.root / "study.db"

    @property
    def question(self) -> Path:
        """What is searched, on which log."""
        return self.root / "study.json"

    @property
    def best(self) -> Path:
        return self.root / "best.yaml"

    @property
    def importance(self) -> Path:
        return self.root / "importance.png"

    @property
    def scratch(self) -> Path:
        """What trials share while a search runs."""
        return self.run / "scratch"
