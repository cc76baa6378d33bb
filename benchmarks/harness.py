"""Ours beside its peers: one after the other in one run, several times, medians into build/bench/results.json.

A timed thing is a function that does its work once and returns a `Timing`; it starts its own clock, so that set-up (a Spark session, reading the log
into memory) stays apart, alike for all. Peers live in environments of their own (`.make/peers.sh`) and are run as scripts, `peer`, and ours can be run
as a script too, `fresh`, so that each run has a process and a session of its own; the last line of output is JSON with `seconds` and whatever
else there is to say. `measure` goes round: ours, peer, ours, peer, …
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
BENCH = REPO / "build" / "bench"
RESULTS = BENCH / "results.json"
PEERS_PYTHON = BENCH / "peers" / "bin" / "python"
REPLAY_PYTHON = BENCH / "peers-replay" / "bin" / "python"
RUNS = 3

OURS = ("recsys_spark", "pyspark", "numpy", "numba", "scipy", "torch", "pyarrow", "petastorm", "horovod")
PEERS = ("implicit", "replay-rec", "pyspark", "duckdb", "polars", "numpy", "scipy", "pandas")
PRODUCTS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instructions that decide how fast products are. A virtual machine may hide them, so the processor's name does not tell of them."""


@dataclass(frozen=True)
class Timing:
    """Seconds, and what else is known of what was done (quality, rows, memory)."""

    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


Timed = Callable[[], Timing]


def peer(script: str, *arguments: object, python: Path = PEERS_PYTHON) -> Timed:
    """`benchmarks/peers/<script>.py` under the peers' own interpreter."""

    def run() -> Timing:
        timing = _script(python, REPO / "benchmarks" / "peers" / f"{script}.py", *arguments)
        return Timing(timing.seconds, {**timing.facts, "versions": peer_versions(python)})

    return run


def fresh(script: Path, *arguments: object) -> Timed:
    """A script of ours in a process of its own."""
    return lambda: _script(Path(sys.executable), script, *arguments)


def _script(python: Path, *command: object) -> Timing:
    # Spark starts its Python workers with the interpreter that runs the script
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_")}
    done = subprocess.run([str(python), *map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=env)
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return Timing(facts.pop("seconds"), facts)


def submit(job: str, *arguments: object, memory: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """jobs/<job>.py under spark-submit (`options`) on all cores; what it says is to be read with `told`."""
    command = [
        str(Path(sys.executable).with_name("spark-submit")), "--master", "local[*]", "--driver-memory", memory, *options,
        str(REPO / "jobs" / f"{job}.py"), *map(str, arguments),
    ]  # fmt: skip
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    # spark-submit passes on by its output what the job writes as errors
    return subprocess.Popen(command, env=env, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def told(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that the process says, passed on to this one's errors; raises where it ends in failure."""
    for line in process.stdout or ():
        sys.stderr.write(line)
        yield line
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def session_start(lines: Iterable[str]) -> float:
    """How long the Spark session took to start [s], by what the job says."""
    found = [re.search(r"spark: .*, started in ([0-9.]+) s", line) for line in lines]
    return next(float(match[1]) for match in found if match)


def measure(case: str, ours: Timed, peers: Mapping[str, Timed], config: Mapping[str, Any], runs: int = RUNS) -> None:
    """Time `ours` and every peer `runs` times in turn and keep an entry for each peer; with no peers one entry whose peer is null.

    A peer that fails is left out of the later rounds; the others' figures are kept, and then its error is raised.
    """
    timings: dict[str, list[Timing]] = {"": []}
    failed: dict[str, Exception] = {}
    for _ in range(runs):
        for name, timed in {"": ours, **peers}.items():
            if name in failed:
                continue
            try:
                timings.setdefault(name, []).append(timed())
            except Exception as error:
                if not name:
                    raise
                failed[name] = error
                timings.pop(name, None)
                print(f"  {case}: {name} failed: {error}", file=sys.stderr, flush=True)
                continue
            told = f"  {case}: {name or 'ours'} {timings[name][-1].seconds:.2f} s"
            print(told, file=sys.stderr, flush=True)
    mine = timings.pop("")
    for name in timings or (() if peers else (None,)):
        keep(entry(case, name, mine, timings.get(name), config))
    if failed:
        raise RuntimeError(f"{case}: no figures of {', '.join(failed)}") from next(iter(failed.values()))


def entry(
    case: str, name: str | None, mine: list[Timing], theirs: list[Timing] | None, config: Mapping[str, Any]
) -> dict[str, Any]:
    """One of results.json: the medians of our runs and of those of the peer `name`, if there is one."""
    ours_s = statistics.median(t.seconds for t in mine)
    peer_s = statistics.median(t.seconds for t in theirs) if theirs else None
    ratio = ours_s / peer_s if peer_s else None
    print(f"{case}: {ours_s:.2f} s" + (f", {name} {peer_s:.2f} s, ratio {ratio:.3f}" if ratio else ""))
    sys.stdout.flush()
    return {
        "case": case,
        "peer": name,
        "ours_seconds": round(ours_s, 4),
        "peer_seconds": round(peer_s, 4) if theirs else None,
        "ratio": round(ratio, 4) if ratio else None,
        "config": dict(config),
        "ours_runs": [round(t.seconds, 4) for t in mine],
        "peer_runs": [round(t.seconds, 4) for t in theirs] if theirs else None,
        "ours_facts": mine[-1].facts,
        "peer_facts": theirs[-1].facts if theirs else None,
        "date": date.today().isoformat(),
        "machine": machine(),
    }


def keep(entry: Mapping[str, Any]) -> None:
    """Put `entry` into results.json, in the place of an earlier one of the same case and peer."""
    entries = results()
    key = entry["case"], entry["peer"]
    entries = [e for e in entries if (e["case"], e["peer"]) != key] + [dict(entry)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(entries, indent=2) + "\n")
    temporary.replace(RESULTS)


def results() -> list[dict[str, Any]]:
    """The entries of results.json, oldest first."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def run_cases(cases: Mapping[str, Callable[[], None]], only: str | None = None) -> int:
    """Run each case whose name begins with `only`; one that fails does not stop the others. Returns an exit code."""
    failed = []
    chosen = {name: case for name, case in cases.items() if name.startswith(only or "")}
    if not chosen:
        print(f"no case begins with {only!r}: {', '.join(cases)}", file=sys.stderr)
        return 2
    for name, case in chosen.items():
        try:
            case()
        except Exception:
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr, flush=True)
    return 1 if failed else 0


@cache
def machine() -> dict[str, Any]:
    """The processor, those of its instructions that decide how fast products are, its cores, memory and the versions that matter."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.split(":")[1].strip() for line in cpu if line.startswith("model name")}
    flags = {flag for line in cpu if line.startswith("flags") for flag in line.split()}
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    java = _says("java", "-version")
    gpu = _says("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return {
        "cpu": ", ".join(sorted(names)),
        "instructions": " ".join(name for name in PRODUCTS if name in flags),
        "cores": sum(line.startswith("processor") for line in cpu),
        "memory_gib": round(memory, 1),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        **({"java": java[0]} if java else {}),
        **({"gpu": ", ".join(gpu)} if gpu else {}),
        "versions": {name: metadata.version(name) for name in OURS if _installed(name)},
    }


def _says(*command: str) -> list[str]:
    """The lines that a program says of itself, none where it is not there."""
    if not shutil.which(command[0]):
        return []
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [] if done.returncode else done.stdout.splitlines()


def _installed(name: str) -> bool:
    return next(iter(metadata.distributions(name=name)), None) is not None


@cache
def peer_versions(python: Path) -> dict[str, str]:
    """The versions of the peers of an environment."""
    code = f"""
import json
from importlib import metadata
found = {{d.metadata["Name"]: d.version for d in metadata.distributions()}}
print(json.dumps({{name: found[name] for name in {PEERS!r} if name in found}}))
"""
    done = subprocess.run([str(python), "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


class WorkerMemory(threading.Thread):
    """The highest memory of any one Python worker of Spark below this process, looked at every 20 ms: `anonymous` (what it allocated) and
    `resident` (with the files it maps, which all workers of a machine share), in MiB. A context manager."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.anonymous = self.resident = 0.0
        self.over = threading.Event()

    def __enter__(self) -> WorkerMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        looks = 0
        workers: list[int] = []
        while not self.over.wait(0.02):
            if looks % 25 == 0:
                workers = [pid for pid in descendants(os.getpid()) if _is_worker(pid)]
            looks += 1
            for pid in workers:
                memory = _status(pid)
                self.anonymous = max(self.anonymous, memory.get("RssAnon", 0) / 1024)
                self.resident = max(self.resident, memory.get("VmHWM", 0) / 1024)

    def facts(self) -> dict[str, float]:
        return {"task_peak_anonymous_mib": round(self.anonymous), "task_peak_rss_mib": round(self.resident)}


def descendants(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found, at = [pid], 0
    while at < len(found):
        for path in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
        at += 1
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"pyspark.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _status(pid: int) -> dict[str, int]:
    """The kB figures of /proc/<pid>/status; none when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (li.partition(":") for li in lines) if "kB" in rest}
