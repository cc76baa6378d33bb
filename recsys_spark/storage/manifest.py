"""Manifests: what makes a stage done.

A stage writes its manifest last, by one rename. The manifest holds a fingerprint of everything the stage's output depends on
(settings, inputs, version of the program). As long as the fingerprint is the same the stage is done and is skipped; a folder
without a manifest is the rest of a killed run and is made again.
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
    """What a finished stage says of itself. `output_id` changes whenever the stage ran again, so what stands on it runs again too."""

    stage: str
    pass_name: str
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


def read(folder: Path) -> Manifest | None:
    """The manifest in `folder`, or None when the stage has not finished there."""
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Manifest(**raw)
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def require(layout: Layout, stage: str, pass_name: str) -> Manifest:
    """The manifest of a stage that must have run, on what stands there now; `StageMissing` says how to run it."""
    manifest = read(layout.stage(stage, pass_name))
    if manifest is None:
        raise StageMissing(
            f"run {layout.run_id!r} has no finished {stage} stage ({layout.stage(stage, pass_name)}); "
            f"run jobs/{stage}.py with the same --run-id first, or jobs/nightly.py"
        )
    for name in run_since(layout, manifest):
        raise StageMissing(
            f"run {layout.run_id!r}: {name.partition('/')[2]} has run again since {stage} read it; "
            f"run jobs/{stage}.py again with the same --run-id, or jobs/nightly.py"
        )
    return manifest


def current(layout: Layout, stage: str, pass_name: str) -> Manifest | None:
    """The manifest of a stage that has finished, on what stands there now; None when there is none."""
    manifest = read(layout.stage(stage, pass_name))
    return manifest if manifest and not run_since(layout, manifest) else None


def run_since(layout: Layout, manifest: Manifest) -> list[str]:
    """The inputs of `manifest` (`<pass>/<stage>`) whose stage has run again since it was written; one that is gone has not."""
    found = []
    for name, output_id in manifest.inputs.items():
        of, _, upstream = name.partition("/")
        now = read(layout.stage(upstream, of)) if upstream else None
        if now and now.output_id != output_id:
            found.append(name)
    return found


def run_stage(
    layout: Layout,
    stage: str,
    pass_name: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    work: Callable[[Path], Mapping[str, Any]],
    force: bool = False,
    keep: Iterable[str] = (),
) -> Manifest:
    """Run `work(folder)` unless a manifest with the same fingerprint says it is done.

    `inputs` maps names to the ids of what is read: `<pass>/<stage>` to the `output_id` of a stage, any other name to that of raw files. `settings` is everything
    else the output depends on, as plain JSON values. `work` returns the counts for the manifest. `keep` names entries of the folder
    that survive from a killed run (checkpoints).
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
    label = stage if pass_name == stage or folder.parent == layout.run else f"{pass_name} {stage}"
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
    log.info("%s: finished in %.1f s %s", label, seconds, _brief(counts))
    return manifest


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that `path` holds either the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _empty(folder: Path, keep: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # first, so that a kill half-way leaves no stage that looks done
    kept = set(keep)
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _versions() -> dict[str, str]:
    found = {}
    for name in ("recsys_spark", "pyspark", "torch", "petastorm", "pyarrow", "horovod"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _redact(text: str) -> str:
    """Credentials inside a URL never reach a manifest."""
    return _USERINFO.sub("***@", text)


def _brief(counts: Mapping[str, Any]) -> str:
    shown = [f"{k}={v:,}" for k, v in counts.items() if isinstance(v, int) and not isinstance(v, bool)]
    return f"({', '.join(shown[:6])})" if shown else ""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
