"""Reads and generates the logs of the benchmarks: the public Gowalla split, any other log, or a generated one.

    python benchmarks/logs.py FOLDER --users 1000000 --items 200000 --events 50000000 [--once]

writes Parquet with user_id, item_id and event_ts.

A generated log has the popularity distributions of Gowalla: the number of events of the r-th most active user is
proportional to (r + 73)^-0.66, that of the r-th most popular item to (r + 9)^-0.60. This is the Zipf-Mandelbrot law,
fitted by least squares of the logarithms. The root mean square error is 10 % for users and 18 % for items. The number
of events doubles over a year, falls at night and peaks at weekends; these figures are assumptions. Users and items are
drawn independently, so quality cannot be measured on a generated log.

Shapes:  T events
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys_spark.columns import AS_OF, FOLD, RELEASE, TRAIN
from recsys_spark.storage import contract as contracts

CHUNK = 4_000_000
"""Number of events that are generated at a time. They need about 500 MB at the peak."""
USER_LAW = 0.66, 73.0
ITEM_LAW = 0.60, 9.0
"""Exponent and offset of the distributions above."""
START = 1_735_689_600
"""2025-01-01 UTC."""
DAYS, GROWTH, WEEKEND, NIGHT = 365, 2.0, 1.3, 0.15
"""Days of the log, and ratios of events: last day to first, weekend to weekday, quietest hour to busiest."""


@dataclass(frozen=True)
class Events:
    """users int64 [T] from 0 · items int32 [T] from 1 · times int64 [T], seconds since 1970 UTC, 0 in a log without
    times.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Shape:
    """The size and seed of a generated log. Equal shapes give equal logs."""

    users: int
    items: int
    events: int
    seed: int = 0

    def events_by_time(self) -> Iterator[Events]:
        """Yield chunks of events in the order of time. A user may have several events with an item."""
        chunks = -(-self.events // CHUNK)
        for chunk in range(chunks):
            rng = np.random.default_rng([self.seed, 1, chunk])
            count = self.events * (chunk + 1) // chunks - self.events * chunk // chunks
            moments = np.sort(rng.random(count)) + chunk
            users = self._names[0][_ranks(rng, count, self.users, USER_LAW)]
            yield Events(users, self._items(rng, count), _times(moments / chunks))

    def pairs_by_user(self) -> Iterator[Events]:
        """Yield chunks of events by user and then time. Each (user, item) has one event. The total is exact to 1 %."""
        degrees = self._degrees()
        starts = np.cumsum(degrees) - degrees
        bounds = np.searchsorted(starts, np.arange(0, int(degrees.sum()) + CHUNK, CHUNK))
        for chunk, (first, last) in enumerate(pairwise(bounds)):
            rng = np.random.default_rng([self.seed, 2, chunk])
            if last > first:
                yield self._pairs_of(rng, int(first), degrees[first:last])

    @cached_property
    def _names(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the user and the item of each rank."""
        rng = np.random.default_rng([self.seed, 0])
        return rng.permutation(self.users), rng.permutation(self.items).astype(np.int32) + np.int32(1)

    def _items(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return self._names[1][_ranks(rng, count, self.items, ITEM_LAW)]

    def _degrees(self) -> np.ndarray:
        """Return int64 [users]: the number of events of each user, from one to a tenth of the items."""
        exponent, offset = USER_LAW
        share = (np.arange(1, self.users + 1) + offset) ** -exponent
        exact = share / share.sum() * self.events
        rounded = np.floor(exact + np.random.default_rng([self.seed, 3]).random(self.users))
        degrees = np.empty(self.users, np.int64)
        degrees[self._names[0]] = np.clip(rounded, 1, max(1, self.items // 10))
        return degrees

    def _pairs_of(self, rng: np.random.Generator, first: int, degrees: np.ndarray) -> Events:
        rows, width = np.arange(len(degrees)), self.items + 1
        keys = np.empty(0, np.int64)
        missing = degrees
        for _ in range(20):  # a user's repeated items are drawn again
            drawn = np.repeat(rows, missing)
            keys = np.unique(np.append(keys, drawn * width + self._items(rng, len(drawn))))
            missing = degrees - np.bincount(keys // width, minlength=len(rows))
            if not missing.any():
                break
        users, items = np.divmod(keys, width)
        times = _times(rng.random(len(keys)))
        order = np.argsort((users << 32) + times)
        return Events(users[order] + first, items[order].astype(np.int32), times[order])


def generate(users: int, items: int, events: int, seed: int = 0, *, once: bool = False) -> Events:
    """Return a log in memory. With `once` it has each (user, item) once and is ordered by user."""
    shape = Shape(users, items, events, seed)
    return concatenate(shape.pairs_by_user() if once else shape.events_by_time())


def concatenate(chunks: Iterable[Events]) -> Events:
    parts = list(chunks)
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "items", "times")))


def read_pairs(log: Path) -> Events:
    """Return the distinct (user, item) pairs of a log, ordered by user.

    The log is a folder with `train.txt.gz` (Gowalla's format: `user item item …` a line, ids from 0), or Parquet or CSV
    files with the columns user_id and item_id. Their ids are numbered in the order of first appearance.
    """
    if (log / "train.txt.gz").exists():
        users, items = _read_lines(log / "train.txt.gz")
    else:
        form = "csv" if next(log.rglob("*.csv"), None) or log.suffix == ".csv" else "parquet"
        table = ds.dataset(log, format=form).to_table(columns=["user_id", "item_id"])
        users, items = (
            pc.dictionary_encode(table[name].combine_chunks()).indices.to_numpy().astype(np.int64)
            for name in table.column_names
        )
    width = int(items.max()) + 1
    users, items = np.divmod(np.unique(users * width + items), width)
    return Events(users, (items + 1).astype(np.int32), np.zeros(len(users), np.int64))


def log_or_like(log: Path) -> tuple[str, Events]:
    """Return the name and the pairs of the log in `log`. Without it, a log of Gowalla's shape is generated."""
    if log.exists():
        return log.resolve().name, read_pairs(log)
    print(f"{log} does not exist. A log of Gowalla's shape is generated", file=sys.stderr)
    return "generated", generate(29_858, 40_981, 810_128, once=True)


def write_log(folder: Path, chunks: Iterable[Events]) -> int:
    """Write Parquet with user_id int64, item_id int32, event_ts timestamp, and return the number of events."""
    types = {"user_id": pa.int64(), "item_id": pa.int32(), "event_ts": pa.timestamp("us", "UTC")}
    tables = (pa.table([p.users, p.items, p.times * 1_000_000], list(types)).cast(pa.schema(types)) for p in chunks)
    return _write(folder, tables)


def write_folds(folder: Path, chunks: Iterable[Events], fold: str = TRAIN) -> int:
    """Write the table `folds` with one fold and all weights 1, and return the number of pairs."""
    schema = _without(contracts.load("folds").arrow_schema(), FOLD)
    tables = (
        pa.table([p.users, p.items, p.times * 1_000_000, np.ones(len(p), np.float32)], schema.names).cast(schema)
        for p in chunks
    )
    return _write(folder / f"{FOLD}={fold}", tables)


def write_histories(folder: Path, chunks: Iterable[Events], as_of: str = RELEASE) -> int:
    """Write the table `histories` as of one fold; return the number of users. A user's events must be in one chunk."""
    return _write(folder / f"{AS_OF}={as_of}", map(_histories, chunks))


def _histories(chunk: Events) -> pa.Table:
    users, starts = np.unique(chunk.users, return_index=True)
    offsets = pa.array(np.append(starts, len(chunk)).astype(np.int32))
    values = chunk.items, chunk.times, np.ones(len(chunk), np.float32)
    lists = [pa.ListArray.from_arrays(offsets, pa.array(flat)) for flat in values]
    schema = _without(contracts.load("histories").arrow_schema(), AS_OF)
    return pa.table([pa.array(users), *lists, pa.nulls(len(users), pa.string())], schema.names).cast(schema)


def _without(schema: pa.Schema, name: str) -> pa.Schema:
    return schema.remove(schema.get_field_index(name))


def _write(folder: Path, tables: Iterable[pa.Table]) -> int:
    folder.mkdir(parents=True)
    rows = 0
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number:05}.parquet", row_group_size=1 << 18)
        rows += len(table)
    return rows


def _read_lines(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(path, "rb") as lines:
        rows = [np.fromstring(line, np.int64, sep=" ") for line in lines if line.strip()]
    lengths = [len(row) - 1 for row in rows]
    return np.repeat([row[0] for row in rows], lengths), np.concatenate([row[1:] for row in rows])


def _ranks(rng: np.random.Generator, count: int, size: int, law: tuple[float, float]) -> np.ndarray:
    """Return int64 [count] ranks from 0, drawn in proportion to (rank + 1 + offset)^-exponent.

    The inverse of its integral maps uniform numbers to ranks.
    """
    exponent, offset = law
    power = 1 - exponent
    low, high = (0.5 + offset) ** power, (size + 0.5 + offset) ** power
    ranks = (low + rng.random(count) * (high - low)) ** (1 / power) - (0.5 + offset)
    return np.minimum(ranks.astype(np.int64), size - 1)


def _times(moments: np.ndarray) -> np.ndarray:
    """Return int64 seconds of `moments`, float64 in [0, 1): the shares of all events that are earlier."""
    hours = np.arange(DAYS * 24)
    days = hours // 24
    rhythm = GROWTH ** (days / DAYS)
    rhythm *= np.where((days + 2) % 7 >= 5, WEEKEND, 1)  # START is a Wednesday
    rhythm *= NIGHT + (1 - NIGHT) * (1 - np.cos(2 * np.pi * (hours % 24 - 4) / 24)) / 2
    shares = np.append(0, np.cumsum(rhythm)) / rhythm.sum()
    return START + np.interp(moments, shares, np.arange(len(shares)) * 3600.0).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name in ("users", "items", "events"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--once", action="store_true", help="each (user, item) once, ordered by user instead of time")
    arguments = parser.parse_args()
    shape = Shape(arguments.users, arguments.items, arguments.events, arguments.seed)
    clock = time.monotonic()
    rows = write_log(arguments.folder, shape.pairs_by_user() if arguments.once else shape.events_by_time())
    print(f"{rows:,} events in {time.monotonic() - clock:.1f} s")


if __name__ == "__main__":
    main()
