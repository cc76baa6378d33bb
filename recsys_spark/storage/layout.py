"""Builds every path under `paths.root`. No other module joins the names of these folders.

runs/<run_id>/clean/…                         the clean stage, which runs once before both passes
runs/<run_id>/<backtest|release>/<stage>/…    one folder per stage: tables, item models, manifest.json
runs/<run_id>/report.html
index/users · index/items                     dense ids, carried from night to night
top_n/                                        the published Delta table
tune/                                         settings searches

A settings search has a root of its own that holds one run, and beside it study.db, study.json, best.yaml and
importance.png.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Layout:
    """Paths of one run. Driver, executors and training workers must see `root` under the same path."""

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

    def all_runs(self) -> list[Layout]:
        """Return the runs of this root, ordered by id. The folder of the runs also holds lock files."""
        folders = sorted((self.root / "runs").glob("*"))
        return [Layout(self.root, folder.name) for folder in folders if folder.is_dir()]

    def stage(self, stage: str, pass_name: str | None = None) -> Path:
        """Return the folder of a stage in a pass, or of a stage that belongs to no pass."""
        return self.run / pass_name / stage if pass_name else self.run / stage

    def table(self, stage: str, pass_name: str, table: str) -> Path:
        """Return the folder of a table, an item model or a JSON file that `stage` writes in a pass."""
        return self.stage(stage, pass_name) / table

    def clean_table(self, table: str) -> Path:
        """Return the folder of a table that the clean stage writes."""
        return self.stage("clean") / table

    def manifest(self, stage: str, pass_name: str | None = None) -> Path:
        return self.stage(stage, pass_name) / MANIFEST


@dataclass(frozen=True)
class StudyLayout(Layout):
    """Paths of a settings search. `root` is its folder. The stages that trials share run once in it."""

    run_id: str = "study"

    @classmethod
    def under(cls, root: Path, models: Iterable[str]) -> StudyLayout:
        """Return the default folder of a search for settings of `models` in the root of the nightly runs."""
        return cls((root / "tune" / "+".join(models)).resolve())

    @property
    def trials(self) -> Path:
        """The SQLite file of all trials."""
        return self.root / "study.db"

    @property
    def facts(self) -> Path:
        """The settings, search spaces and input files that the NDCGs of the study depend on."""
        return self.root / "study.json"

    @property
    def best(self) -> Path:
        return self.root / "best.yaml"

    @property
    def importance(self) -> Path:
        return self.root / "importance.png"

    @property
    def scratch(self) -> Path:
        """Files that trials share while a search runs."""
        return self.run / "scratch"
