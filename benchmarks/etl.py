"""Measures clean, split and features on generated dirty logs of several sizes, beside the same cleaning in DuckDB.

    python benchmarks/etl.py [--events 1000000 10000000 50000000] [--peer 1000000 10000000] [--runs 3]
                             [--scratch build/bench/etl]

Each size is written as CSV, processed by jobs/clean.py, jobs/split.py and jobs/features.py, and deleted. The start of
the Spark session is subtracted. `growth` compares two sizes: (seconds / seconds) / (events / events). It should stay
below 1.15. A log has the faults of `DIRT`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from itertools import pairwise
from pathlib import Path

import harness
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from logs import Events, Shape

CUTOFF = "2026-02-01"
EARLIEST = "1995-01-01"
PER_DAY = 5_000
CORE = 5
STAGES = ("clean", "split", "features")
DIRT = {
    "malformed_row": 0.002,
    "missing_user": 0.004,
    "missing_item": 0.004,
    "unparsable_time": 0.004,
    "too_old": 0.002,
    "future_time": 0.002,
    "unknown_event_type": 0.005,
    "rating_out_of_range": 0.005,
    "duplicate": 0.01,
    "bot": 0.01,
}
"""Share of lines with each fault. A duplicate repeats the line before it. A bot exceeds PER_DAY events on one day."""
TYPES = pa.array(["view", "cart", "purchase", "rating"])
BOT_EVENTS = 2 * PER_DAY


def dirty_log(path: Path, events: int, seed: int = 7) -> None:
    """Write a CSV of `events` lines: user, item, timestamp (s), event type, rating. A dirty line has one fault."""
    shape = Shape(max(events // 50, 100), max(events // 250, 50), events, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = 0
    with open(path, "wb") as file:
        file.write(b"user_id,item_id,timestamp,event_type,rating\n")
        for number, chunk in enumerate(shape.events_by_time()):
            rng = np.random.default_rng([seed, 9, number])
            lines = _lines(chunk, start, rng)
            whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
            file.write(pc.binary_join(whole, "\n")[0].as_buffer())
            file.write(b"\n")
            start += len(chunk)


def _lines(chunk: Events, start: int, rng: np.random.Generator) -> pa.Array:
    """Return the lines of a chunk. `start` is the number of events before it."""
    n = len(chunk)
    draw = rng.random(n)
    edges = np.cumsum(list(DIRT.values()))
    fault = np.searchsorted(edges, draw)  # len(DIRT): none
    is_ = {name: fault == i for i, name in enumerate(DIRT)}
    bot = (start + np.cumsum(is_["bot"])) // BOT_EVENTS
    users = pc.binary_join_element_wise("u", pa.array(chunk.users).cast("string"), "")
    users = pc.if_else(
        pa.array(is_["bot"]), pc.binary_join_element_wise("bot", pa.array(bot).cast("string"), ""), users
    )
    users = pc.if_else(pa.array(is_["missing_user"]), "", users)
    items = pc.binary_join_element_wise("i", pa.array(chunk.items).cast("string"), "")
    items = pc.if_else(pa.array(is_["missing_item"]), " ", items)
    # a bot's events lie on one day
    times = np.where(is_["bot"], 1_750_000_000 // 86_400 * 86_400 + rng.integers(0, 86_400, n), chunk.times)
    times = np.where(is_["too_old"], times - 2_000_000_000, times)
    times = np.where(is_["future_time"], times + 400_000_000, times)
    when = pc.if_else(pa.array(is_["unparsable_time"]), "soon", pa.array(times).cast("string"))
    kinds = TYPES.take(pa.array(rng.choice(4, n, p=[0.7, 0.1, 0.05, 0.15])))
    kinds = pc.if_else(pa.array(is_["unknown_event_type"]), "wink", kinds)
    stars = np.where(is_["rating_out_of_range"], 9, rng.integers(1, 6, n))
    rated = pc.equal(kinds, "rating")
    ratings = pc.if_else(pc.or_(rated, pa.array(is_["rating_out_of_range"])), pa.array(stars).cast("string"), "")
    lines = pc.binary_join_element_wise(users, items, when, kinds, ratings, ",")
    lines = pc.if_else(pa.array(is_["malformed_row"]), pc.binary_join_element_wise(users, "torn", ","), lines)
    again = np.arange(n) - is_["duplicate"]
    again[0] = 0
    return lines.take(pa.array(again))


def overlay(folder: Path) -> Path:
    path = folder / "etl.yaml"
    path.write_text(
        f"""paths:
  root: {folder / "root"}
  events: {folder / "events.csv"}
clean:
  time_unit: s
  columns: {{event_type: event_type, rating: rating}}
  rating_range: [1, 5]
  earliest: {EARLIEST}
  max_events_per_user_day: {PER_DAY}
  k_core_users: {CORE}
  k_core_items: {CORE}
"""
    )
    return path


def job(stage: str, config: Path, memory: str) -> tuple[float, dict]:
    """Return the seconds of a stage's backtest pass, without the start of the session, and its counts."""
    process = harness.submit(
        stage, "--config", config, "--run-date", CUTOFF, "--pass", "backtest", "--force",
        memory=memory,
    )  # fmt: skip
    start = harness.session_start(harness.output_lines(process))
    run = config.parent / "root" / "runs" / CUTOFF
    folder = run / stage if stage == "clean" else run / "backtest" / stage
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest["seconds"] - start, manifest["counts"]


def cleaned(config: Path, memory: str) -> harness.Timed:
    def run() -> harness.Timing:
        shutil.rmtree(config.parent / "root", ignore_errors=True)
        seconds, counts = job("clean", config, memory)
        names = ("rows_in", "interactions", "users", "items", "quarantined_by_reason")
        return harness.Timing(seconds, {name: counts[name] for name in names})

    return run


def stage(name: str, config: Path, memory: str) -> harness.Timed:
    return lambda: harness.Timing(job(name, config, memory)[0])


def growth(sizes: list[int]) -> None:
    """Print and keep how much faster than the log the time of each stage grows."""
    entries = {e["case"]: e for e in harness.results()}
    for name in STAGES:
        for less, more in pairwise(sizes):
            small, large = entries[case(name, less)], entries[case(name, more)]
            rate = large["ours_seconds"] / small["ours_seconds"] / (more / less)
            harness.keep({**large, "growth": round(rate, 3)})
            print(f"{name}: {less:,} to {more:,} events: {rate:.2f} times linear")


def case(name: str, events: int) -> str:
    return f"{name} {events // 1_000_000} M events"


def same_counts(name: str) -> None:
    """Fail unless the peer counts as many rows for every reason."""
    (entry,) = [e for e in harness.results() if e["case"] == name and e["peer"]]
    ours, theirs = entry["ours_facts"], entry["peer_facts"]
    wrong = {key: (ours[key], theirs.get(key)) for key in ours if ours[key] != theirs.get(key)}
    if wrong:
        raise SystemExit(f"{name}: the counts of DuckDB differ (ours, theirs): {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--peer", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--runs", type=int, default=harness.RUNS)
    parser.add_argument("--memory", default="6g")
    parser.add_argument("--scratch", type=Path, default=harness.BENCH / "etl")
    arguments = parser.parse_args()
    for events in arguments.events:
        folder = arguments.scratch / str(events)
        dirty_log(folder / "events.csv", events)
        config = overlay(folder)
        facts = {
            "events": events,
            "bytes": (folder / "events.csv").stat().st_size,
            "driver_memory": arguments.memory,
        }
        limits = (CUTOFF, EARLIEST, PER_DAY, CORE)
        peers = (
            {"duckdb": harness.peer("duckdb_clean", folder / "events.csv", folder / "duckdb", *limits)}
            if events in arguments.peer
            else {}
        )
        harness.measure(case("clean", events), cleaned(config, arguments.memory), peers, facts, runs=arguments.runs)
        if peers:
            same_counts(case("clean", events))
        for name in STAGES[1:]:
            harness.measure(case(name, events), stage(name, config, arguments.memory), {}, facts, runs=arguments.runs)
        shutil.rmtree(folder)
    growth(arguments.events)


if __name__ == "__main__":
    main()
