"""Ours beside its peers: one after the other in one run, several times, medians into build/bench/results.json.

A timed thing is a function that does its work once and returns a `Timing`; it starts its own clock, so that set-up (a Spark session, reading the log into
memory) stays apart, alike for all. Peers live in an environment of their own (`.make/peers.sh`) and are run as scripts, `peer`, whose last line
of output is JSON with `seconds` and whatever else they have to say. `measure` goes round: ours, peer, ours, peer, …
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
BENCH = REPO / "build" / "bench"
RESULTS = BENCH / "results.json"
PEERS_PYTHON = BENCH / "peers" / "bin" / "python"
RUNS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds, and what else is known of what was done (quality, rows, memory)."""

    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


Timed = Callable[[], Timing]


def peer(script: str, *arguments: object, python: Path = PEERS_PYTHON) -> Timed:
    """`benchmarks/peers/<script>.py` under the peers' own interpreter."""

    def run() -> Timing:
        command = [str(python), str(REPO / "benchmarks" / "peers" / f"{script}.py"), *map(str, arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        facts = json.loads(done.stdout.strip().splitlines()[-1])
        return Timing(facts.pop("seconds"), facts)

    return run


def measure(
    case: str, ours: Timed, peers: Mapping[str, Timed], config: Mapping[str, Any], runs: int = RUNS
) -> None:
    """Time `ours` and every peer `runs` times in turn and keep an entry for each peer; with no peers one entry whose peer is null."""
    timings: dict[str, list[Timing]] = {"": [], **{name: [] for name in peers}}
    for _ in range(runs):
        for name, timed in {"": ours, **peers}.items():
            timings[name].append(timed())
            print(
                f"  {case}: {name or 'ours'} {timings[name][-1].seconds:.2f} s", file=sys.stderr, flush=True
            )
    mine = statistics.median(t.seconds for t in timings[""])
    for name in peers or {None: None}:
        theirs = statistics.median(t.seconds for t in timings[name]) if name else None
        entry = {
            "case": case,
            "peer": name,
            "ours_seconds": round(mine, 4),
            "peer_seconds": round(theirs, 4) if theirs is not None else None,
            "ratio": round(mine / theirs, 4) if theirs else None,
            "config": dict(config),
            "ours_runs": [round(t.seconds, 4) for t in timings[""]],
            "peer_runs": [round(t.seconds, 4) for t in timings[name]] if name else None,
            "ours_facts": timings[""][-1].facts,
            "peer_facts": timings[name][-1].facts if name else None,
            "date": date.today().isoformat(),
            "machine": machine(),
        }
        keep(entry)
        told = f"{case}: {mine:.2f} s" + (
            f", {name} {theirs:.2f} s, ratio {mine / theirs:.3f}" if theirs else ""
        )
        print(told, flush=True)


def keep(entry: Mapping[str, Any]) -> None:
    """Put `entry` into results.json, in the place of an earlier one of the same case and peer."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    key = entry["case"], entry["peer"]
    entries = [e for e in entries if (e["case"], e["peer"]) != key] + [dict(entry)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(entries, indent=2) + "\n")
    temporary.replace(RESULTS)


def machine() -> dict[str, Any]:
    """The processor, its cores, memory and the versions that matter."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.split(":")[1].strip() for line in cpu if line.startswith("model name")}
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    ours = ("recsys_spark", "pyspark", "numpy", "numba", "torch", "pyarrow", "scipy")
    versions = {name: metadata.version(name) for name in ours}
    cores = sum(line.startswith("processor") for line in cpu)
    return {
        "cpu": ", ".join(sorted(names)),
        "cores": cores,
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
        "versions": versions,
    }
