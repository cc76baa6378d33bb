"""Where the time of a whole night goes: start, each stage, end; and the peak memory of all its processes together.

    python benchmarks/night.py conf/demo.yaml [--out build/bench/night-demo.json] [spark-submit options …]

Runs jobs/nightly.py under a root of its own (build/bench/night/<conf>), which is emptied first, so nothing is skipped. Memory is the sum of the
proportional set sizes (PSS: shared pages count once) of the job's process tree, looked at every half second. The wall times of the nights, three in turn, are
also kept in results.json, as the case "night <conf>"; the first night of a clone compiles its loops.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path

from harness import BENCH, Timing, descendants, measure, session_start, submit, told


def pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


class Memory(threading.Thread):
    """The highest sum of proportional set sizes seen."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.peak = max(self.peak, sum(map(pss_bytes, descendants(self.pid))))


def stages(run: Path) -> list[dict]:
    """Every manifest of a run, in the order in which the stages finished."""
    found = [(path, json.loads(path.read_text())) for path in run.rglob("manifest.json")]
    found.sort(key=lambda entry: entry[1]["finished_at"])
    return [
        {
            "stage": m["stage"],
            "pass": "both" if m["stage"] == "clean" else m["pass_name"],
            "seconds": m["seconds"],
        }
        for _, m in found
    ]


def night(config: Path, root: Path, out: Path, options: list[str]) -> Timing:
    """One night; what it spent goes into `out` as well."""
    shutil.rmtree(root, ignore_errors=True)
    clock = time.monotonic()
    process = submit(
        "nightly", "--config", config, "--set", f"paths.root={root}", "--run-id", "bench",
        memory="2g", options=options,
    )  # fmt: skip
    memory = Memory(process.pid)
    memory.start()
    session = session_start(told(process))
    wall = time.monotonic() - clock
    memory.over.set()
    memory.join()
    found = stages(root / "runs" / "bench")
    # the first stage starts the session; what no stage says is the start of both processes, checks, and the end
    spent = {"session": session, "outside stages": round(wall - sum(stage["seconds"] for stage in found), 1)}
    for stage in found:
        spent[f"{stage['pass']} {stage['stage']}"] = stage["seconds"]
    spent["both clean"] = round(spent["both clean"] - session, 3)
    result = {
        "config": config.stem,
        "wall_seconds": round(wall, 1),
        "peak_pss_bytes": memory.peak,
        "spent": spent,
        "stages": found,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for what, seconds in spent.items():
        print(f"{what:20} {seconds:7.1f} s {seconds / wall:6.1%}")
    print(f"{'whole night':20} {wall:7.1f} s, peak memory {memory.peak / 2**30:.2f} GiB")
    return Timing(wall, {"peak_pss_bytes": memory.peak, "spent": spent})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path)
    arguments, options = parser.parse_known_args()
    name = arguments.config.stem
    out = arguments.out or BENCH / f"night-{name}.json"
    work = partial(night, arguments.config, BENCH / "night" / name, out, options)
    measure(f"night {name}", work, {}, {"conf": f"conf/{name}.yaml"})


if __name__ == "__main__":
    main()
