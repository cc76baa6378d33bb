"""Measures this package beside its peers, in turn and several times, and keeps the medians in build/bench/results.json.

A benchmark is a function that does its work once and returns a `Timing`. It starts its own clock, so that set-up (a
Spark session, reading the log into memory) is excluded for all alike. Peers have environments of their own
(`.make/peers.sh`) and run as scripts with `peer`. Scripts of this package run with `fresh`, so that each run has a new
process and session. The last line that a script prints is JSON with `seconds` and further facts. `measure` alternates:
ours, peer, ours, peer, …
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
"""Instructions that decide the speed of matrix products. A virtual machine may hide them."""


@dataclass(frozen=True)
class Timing:
    """The seconds of one run, and further facts about it, such as quality, rows or memory."""

    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


Timed = Callable[[], Timing]


def peer(script: str, *arguments: object, python: Path = PEERS_PYTHON) -> Timed:
    """Return a benchmark that runs `benchmarks/peers/<script>.py` in the peers' environment."""

    def run() -> Timing:
        timing = _script(python, REPO / "benchmarks" / "peers" / f"{script}.py", *arguments)
        return Timing(timing.seconds, {**timing.facts, "versions": peer_versions(python)})

    return run


def fresh(script: Path, *arguments: object) -> Timed:
    """Return a benchmark that runs a script of this package in a new process."""
    return lambda: _script(Path(sys.executable), script, *arguments)


def _script(python: Path, *command: object) -> Timing:
    # Spark starts its Python workers with the interpreter that runs the script
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_")}
    done = subprocess.run([str(python), *map(str, command)], check=True, stdout=subprocess.PIPE, text=True, env=env)
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return Timing(facts.pop("seconds"), facts)


def submit(job: str, *arguments: object, memory: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start jobs/<job>.py with spark-submit (`options`) on all cores. `output_lines` reads its output."""
    command = [
        str(Path(sys.executable).with_name("spark-submit")), "--master", "local[*]",
        "--driver-memory", memory, *options,
        str(REPO / "jobs" / f"{job}.py"), *map(str, arguments),
    ]  # fmt: skip
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    # spark-submit prints the job's stderr on its stdout
    return subprocess.Popen(command, env=env, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output_lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines that `process` prints, and copy them to stderr. `CalledProcessError` if the process fails."""
    for line in process.stdout or ():
        sys.stderr.write(line)
        yield line
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def session_start(lines: Iterable[str]) -> float:
    """Return the seconds that the Spark session took to start, from the job's log."""
    matches = [re.search(r"spark: .*, started in ([0-9.]+) s", line) for line in lines]
    return next(float(match[1]) for match in matches if match)


def measure(case: str, ours: Timed, peers: Mapping[str, Timed], config: Mapping[str, Any], runs: int = RUNS) -> None:
    """Time `ours` and every peer `runs` times in turn, and keep an entry for each peer.

    Without peers one entry is kept, whose peer is null. A peer that fails is left out of the later rounds. The figures
    of the others are kept, and then its error is raised.
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
            print(f"  {case}: {name or 'ours'} {timings[name][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    mine = timings.pop("")
    for name in timings or (() if peers else (None,)):
        keep(entry(case, name, mine, timings.get(name), config))
    if failed:
        raise RuntimeError(f"{case}: no figures of {', '.join(failed)}") from next(iter(failed.values()))


def entry(
    case: str, name: str | None, mine: list[Timing], theirs: list[Timing] | None, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an entry of results.json: the medians of our runs and of the runs of the peer `name`, if there is one."""
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
    """Write `entry` to results.json. It replaces an earlier entry of the same case and peer."""
    entries = results()
    key = entry["case"], entry["peer"]
    entries = [e for e in entries if (e["case"], e["peer"]) != key] + [dict(entry)]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(entries, indent=2) + "\n")
    temporary.replace(RESULTS)


def results() -> list[dict[str, Any]]:
    """Return the entries of results.json, oldest first."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def run_cases(cases: Mapping[str, Callable[[], None]], only: str | None = None) -> int:
    """Run the cases whose names begin with `only`; return an exit code. A case that fails does not stop the others."""
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
    """Return the processor, its matrix instructions, cores, memory and the versions of the main packages."""
    cpu = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.split(":")[1].strip() for line in cpu if line.startswith("model name")}
    flags = {flag for line in cpu if line.startswith("flags") for flag in line.split()}
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    java = _output("java", "-version")
    gpu = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
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


def _output(*command: str) -> list[str]:
    """Return the lines that a command prints. None if the program is missing or fails."""
    if not shutil.which(command[0]):
        return []
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [] if done.returncode else done.stdout.splitlines()


def _installed(name: str) -> bool:
    return next(iter(metadata.distributions(name=name)), None) is not None


@cache
def peer_versions(python: Path) -> dict[str, str]:
    """Return the versions of the peers in an environment."""
    code = f"""
import json
from importlib import metadata
versions = {{d.metadata["Name"]: d.version for d in metadata.distributions()}}
print(json.dumps({{name: versions[name] for name in {PEERS!r} if name in versions}}))
"""
    done = subprocess.run([str(python), "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


class WorkerMemory(threading.Thread):
    """Measures the peak memory of any one Python worker of Spark below this process, every 20 ms. A context manager.

    `anonymous` is the memory that the worker allocated, in MiB. `resident` includes mapped files, which the workers of
    a machine share.
    """

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
        count = 0
        workers: list[int] = []
        while not self.over.wait(0.02):
            if count % 25 == 0:
                workers = [pid for pid in descendants(os.getpid()) if _is_worker(pid)]
            count += 1
            for pid in workers:
                memory = _status(pid)
                self.anonymous = max(self.anonymous, memory.get("RssAnon", 0) / 1024)
                self.resident = max(self.resident, memory.get("VmHWM", 0) / 1024)

    def facts(self) -> dict[str, float]:
        return {"task_peak_anonymous_mib": round(self.anonymous), "task_peak_rss_mib": round(self.resident)}


def descendants(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    pids = [pid]
    for parent in pids:  # the list grows while it is read
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in path.read_text().split()]
            except OSError:
                continue
    return pids


def _is_worker(pid: int) -> bool:
    try:
        return b"pyspark.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _status(pid: int) -> dict[str, int]:
    """Return the kB figures of /proc/<pid>/status. None if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (li.partition(":") for li in lines) if "kB" in rest}
