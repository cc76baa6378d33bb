"""Manifests: the record that makes a stage done.

A stage writes its manifest last, by one rename. The manifest holds a fingerprint of everything that the output depends
on: settings, inputs and the version of this package. While the fingerprint stays the same the stage is done and is
skipped. A folder without a manifest was left by a killed run and is written again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from recsys_spark.errors import StageMissing
from recsys_spark.hashing import digest
from recsys_spark.storage.layout import MANIFEST, Layout

log = logging.getLogger(__name__)

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Manifest:
    """The record of a finished stage. `output_id` is new each time the stage runs, so dependent stages run again too.

    `pass_name` is None for a stage that belongs to no pass. `inputs` maps the name of each input to its id, as
    `run_stage` takes them. `seconds` is the time that the work took.
    """

    stage: str
    pass_name: str | None
    run_id: str
    fingerprint: str
    output_id: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    counts: dict[str, Any]
    seconds: float
    started_at: str
    finished_at: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def step(self) -> str:
        return step_name(self.stage, self.pass_name)


def step_name(stage: str, pass_name: str | None) -> str:
    """Return the name of a stage among the inputs of another: `clean`, `backtest/split`."""
    return f"{pass_name}/{stage}" if pass_name else stage


def read(folder: Path) -> Manifest | None:
    """Return the manifest in `folder`, or None when no stage has finished there."""
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def require(layout: Layout, stage: str, pass_name: str | None = None) -> Manifest:
    """Return the manifest of a stage that must have run. `StageMissing` when it has not, or when its inputs changed."""
    manifest = read(layout.stage(stage, pass_name))
    if manifest is None:
        raise StageMissing(
            f"run {layout.run_id!r} has no finished {stage} stage ({layout.stage(stage, pass_name)}). "
            f"Run jobs/{stage}.py with the same --run-id first, or jobs/nightly.py"
        )
    for name in changed_inputs(layout, manifest):
        raise StageMissing(
            f"run {layout.run_id!r}: {name} has run again since {stage} read it. "
            f"Run jobs/{stage}.py again with the same --run-id, or jobs/nightly.py"
        )
    return manifest


def output_ids(layout: Layout, steps: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Return the ids of what finished stages wrote, as `inputs` for `run_stage`. `steps` are (stage, pass name)."""
    manifests = [require(layout, *step) for step in steps]
    return {manifest.step: manifest.output_id for manifest in manifests}


def current(layout: Layout, stage: str, pass_name: str | None = None) -> Manifest | None:
    """Return the manifest of a stage that has finished on the present inputs, or None."""
    manifest = read(layout.stage(stage, pass_name))
    return manifest if manifest and not changed_inputs(layout, manifest) else None


def changed_inputs(layout: Layout, manifest: Manifest) -> list[str]:
    """Return the stages that have run again since `manifest` was written. A deleted stage is not listed."""
    changed = []
    for name, output_id in manifest.inputs.items():
        # version 0.1.0 named the clean stage by a pass
        step = "clean" if name in ("backtest/clean", "release/clean") else name
        now = read(layout.run / step)
        if now and now.output_id != output_id:
            changed.append(step)
    return changed


def run_stage(
    layout: Layout,
    stage: str,
    pass_name: str | None,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    work: Callable[[Path], Mapping[str, Any]],
    force: bool = False,
    keep: Iterable[str] = (),
) -> Manifest:
    """Run `work(folder)`, which returns counts, unless a manifest has the same fingerprint. Return the manifest.

    `inputs` maps the step name of each stage that is read to its `output_id`, and the name of other inputs, such as raw
    files, to an id of their content. `settings` is everything else that the output depends on, as JSON values.
    `keep` names entries of the folder that a killed run may leave for the next one, such as checkpoints.
    """
    folder = layout.stage(stage, pass_name)
    settings = json.loads(_redact(json.dumps(settings, sort_keys=True, default=str)))
    fingerprint = digest(
        {
            "stage": stage,
            "pass": pass_name,
            "inputs": dict(inputs),
            "settings": settings,
            "program": _versions()["recsys_spark"],
        }
    )
    done = read(folder)
    label = step_name(stage, pass_name).replace("/", " ")
    if done and done.fingerprint == fingerprint and not force:
        log.info("%s: done before, skipped", label)
        return done
    _empty(folder, keep)
    log.info("%s: started", label)
    started, clock = _now(), time.monotonic()
    counts = dict(work(folder))
    seconds = round(time.monotonic() - clock, 3)
    finished = _now()
    manifest = Manifest(
        stage=stage,
        pass_name=pass_name,
        run_id=layout.run_id,
        fingerprint=fingerprint,
        output_id=digest([fingerprint, finished]),
        inputs=dict(inputs),
        settings=settings,
        counts=counts,
        seconds=seconds,
        started_at=started,
        finished_at=finished,
        versions=_versions(),
    )
    write_json(folder / MANIFEST, asdict(manifest))
    log.info("%s: finished in %.1f s%s", label, seconds, _first_counts(counts))
    return manifest


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON in one step; values that JSON lacks become strings."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that `path` holds either the old content or the new, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _empty(folder: Path, keep: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # first, so that a kill during the deletion leaves no finished stage
    kept = set(keep)
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("recsys_spark", "pyspark", "torch", "petastorm", "pyarrow", "horovod"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _redact(text: str) -> str:
    """Replace credentials in URLs."""
    return _USERINFO.sub("***@", text)


def _first_counts(counts: Mapping[str, Any]) -> str:
    shown = [f"{k}={v:,}" for k, v in counts.items() if isinstance(v, int) and not isinstance(v, bool)]
    return f" ({', '.join(shown[:6])})" if shown else ""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
