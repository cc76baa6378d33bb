"""Measures the time of a whole night by stage, and the peak memory of all its processes.

    python benchmarks/night.py conf/demo.yaml [--out build/bench/night-demo.json] [spark-submit options …]

Runs jobs/nightly.py three times under the root build/bench/night/<conf>, which is emptied first, so that no stage is
skipped. Memory is the sum of the proportional set sizes (PSS, where shared pages count once) of the job's process tree,
measured every half second. results.json keeps the wall times as the case "night <conf>". The first night of a clone
compiles the numba loops.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path

from harness import BENCH, Timing, descendants, measure, output_lines, session_start, submit


def pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


class Memory(threading.Thread):
    """Measures the peak of the sum of proportional set sizes."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            self.peak = max(self.peak, sum(map(pss_bytes, descendants(self.pid))))


def stages(run: Path) -> list[dict]:
    """Return the stage, pass and seconds of every manifest of a run, in the order in which the stages finished."""
    manifests = [json.loads(path.read_text()) for path in run.rglob("manifest.json")]
    return [
        {
            "stage": m["stage"],
            "pass": "both" if m["stage"] == "clean" else m["pass_name"],
            "seconds": m["seconds"],
        }
        for m in sorted(manifests, key=lambda m: m["finished_at"])
    ]


def night(config: Path, root: Path, out: Path, options: list[str]) -> Timing:
    """Run one night. Its times by stage are also written to `out`."""
    shutil.rmtree(root, ignore_errors=True)
    clock = time.monotonic()
    process = submit(
        "nightly", "--config", config, "--set", f"paths.root={root}", "--run-id", "bench",
        memory="2g", options=options,
    )  # fmt: skip
    memory = Memory(process.pid)
    memory.start()
    session = session_start(output_lines(process))
    wall = time.monotonic() - clock
    memory.over.set()
    memory.join()
    finished = stages(root / "runs" / "bench")
    # the first stage starts the session. Outside the stages are the start of both processes, checks and the end
    spent = {"session": session, "outside stages": round(wall - sum(stage["seconds"] for stage in finished), 1)}
    for stage in finished:
        spent[f"{stage['pass']} {stage['stage']}"] = stage["seconds"]
    spent["both clean"] = round(spent["both clean"] - session, 3)
    result = {
        "config": config.stem,
        "wall_seconds": round(wall, 1),
        "peak_pss_bytes": memory.peak,
        "spent": spent,
        "stages": finished,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for name, seconds in spent.items():
        print(f"{name:20} {seconds:7.1f} s {seconds / wall:6.1%}")
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
