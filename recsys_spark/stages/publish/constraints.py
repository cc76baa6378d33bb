"""The laws of the published table, over its Parquet files. No Spark: numpy and Arrow on one machine.

Memory: one file of the night at a time (about 200 bytes a row), one byte a user, the items table, and batches of the run's clean
tables. A night in more files (`publish.files`) needs less. Time: one pass over the run's interactions for each file.

Arrays of a file, in (user, rank) order:  R rows · U users, numbered as they come in the file · I items likewise
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recsys_spark import columns as c
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import Layout

RANKS = "ranks run 1..n without gaps for each user"
PAIRS = "no (user, item) twice"
SCORES = "scores are finite and do not rise with rank"
SOURCES = "each row's source is a known model"
ONE_RUN = "one run_date has one run_id and one model_version"
NULLS = f"no column but {c.BECAUSE} is null"
REASONS = "every row has a reason, unless its source is popularity"
ONE_FILE = "a user's rows stand in one file"
KNOWN = "every user and item is in the run's tables"
SEEN = "nothing is shown that the user has seen"
OWN_REASONS = "a reason is an item of the user's history"
WITHDRAWN = "nothing withdrawn is shown"
BLOCKED = "nothing blocked is shown"
EVERY_USER = "every user of the run's users table is there, unless nothing is left to show"

LAWS = (
    RANKS, PAIRS, SCORES, SOURCES, ONE_RUN, NULLS, REASONS, ONE_FILE, KNOWN, SEEN, OWN_REASONS, WITHDRAWN, BLOCKED, EVERY_USER,
)  # fmt: skip
OF_THE_RUN = (KNOWN, SEEN, OWN_REASONS, WITHDRAWN, BLOCKED, EVERY_USER)
"""The laws that need the folder of the run that made the rows."""

_COLUMNS = (c.USER_ID, c.ITEM_ID, c.RANK, c.SCORE, c.SOURCE, c.BECAUSE, c.RUN_ID, c.MODEL_VERSION)


@dataclass
class Findings:
    """`broken` maps a law to (rows or users that break it, the first one in words); `unchecked` to why it could not be judged."""

    rows: int = 0
    users: int = 0
    files: int = 0
    exhausted: int = 0
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)

    def add(self, law: str, count: int, example: Callable[[], str]) -> None:
        if count:
            before, first = self.broken.get(law, (0, ""))
            self.broken[law] = before + count, first or example()

    def told(self) -> str:
        """The broken laws in one line."""
        return "; ".join(
            f"{law}: broken {count:,} times, e.g. {example}" for law, (count, example) in self.broken.items()
        )


@dataclass(frozen=True)
class Run:
    """The tables of the run that made a night, as far as they are still there."""

    clean: Path
    withdrawn: pa.Array
    blocked: pa.Array
    n_users: int
    models: tuple[str, ...]

    @classmethod
    def of(cls, layout: Layout, output_id: str | None) -> Run | str:
        """The run, or why its laws cannot be judged. `output_id`: what the score stage's output was called when it was published."""
        clean, score = layout.stage("clean", c.RELEASE), manifest.read(layout.stage("score", c.RELEASE))
        done = manifest.read(clean)
        if done is None or score is None:
            return f"run folder {layout.run} is gone or not complete"
        again = f"{c.RELEASE}/clean" in manifest.run_since(layout, score)
        if again or output_id not in (None, score.output_id):
            return f"run folder {layout.run} has been worked on again since the night was published"
        items = tables.read_arrow(clean / "items", "items", [c.ITEM_ID, c.WITHDRAWN])
        blocked = json.loads((layout.stage("score", c.RELEASE) / "blocked.json").read_text(encoding="utf-8"))
        return cls(
            clean=clean,
            withdrawn=items.filter(items[c.WITHDRAWN])[c.ITEM_ID].combine_chunks(),
            blocked=pa.array(blocked, pa.string()),
            n_users=int(done.counts["n_users"]),
            models=tuple(score.counts.get("models", c.MODELS)),
        )


@dataclass(frozen=True)
class _Rows:
    """One file in (user, rank) order. user, item int64 [R] count into users, items (Arrow strings). `explained`: it has the column of
    the reasons, which nights of before it was thought of lack."""

    table: pa.Table
    user: np.ndarray
    item: np.ndarray
    users: pa.Array
    items: pa.Array
    explained: bool

    @classmethod
    def of(cls, file: Path) -> _Rows:
        table = pq.ParquetFile(file).read(columns=list(_COLUMNS))
        explained = c.BECAUSE in table.column_names
        if not explained:
            table = table.append_column(c.BECAUSE, pa.nulls(len(table), pa.string()))
        user, item = (
            table[name].combine_chunks().dictionary_encode(null_encoding="encode") for name in (c.USER_ID, c.ITEM_ID)
        )
        order = np.lexsort((table[c.RANK].fill_null(0).to_numpy(), user.indices.to_numpy()))
        return cls(
            table.take(order),
            user.indices.to_numpy()[order],
            item.indices.to_numpy()[order],
            user.dictionary,
            item.dictionary,
            explained,
        )

    def example(self, bad: np.ndarray) -> Callable[[], str]:
        """The first of the rows `bad` (bool [R]) in words."""
        return lambda: _told(self.table.slice(int(np.argmax(bad)), 1).to_pylist()[0])


def check(files: Sequence[Path], layout: Layout, output_id: str | None = None) -> Findings:
    """Every law on the files of one night that the run of `layout` made, published as `output_id` (None: it is not published yet)."""
    found = Findings()
    run = Run.of(layout, output_id)
    if isinstance(run, str):
        found.unchecked.update(dict.fromkeys(OF_THE_RUN, run))
    served = np.zeros(run.n_users if isinstance(run, Run) else 0, bool)
    versions: set[tuple[str, str]] = set()
    for file in files:
        rows = _Rows.of(file)
        found.files += 1
        found.rows += len(rows.user)
        found.users += len(rows.users)
        if not rows.explained:
            found.unchecked.update(dict.fromkeys((REASONS, OWN_REASONS), "published before rows had reasons"))
        _laws_of_the_rows(rows, run.models if isinstance(run, Run) else c.MODELS, found)
        versions |= _versions(rows.table)
        if isinstance(run, Run):
            _laws_of_the_run(rows, run, served, found)
    # a run id may publish several nights, so it is the other way round that is asked
    strangers = sorted(v for v in versions if v[0] != layout.run_id) or sorted(versions)[1:]
    found.add(
        ONE_RUN,
        len(strangers),
        lambda: f"run_id={strangers[0][0]!r} model_version={strangers[0][1]!r} in a night of run {layout.run_id!r}",
    )
    if isinstance(run, Run):
        _every_user(run, served, found)
    return found


def _laws_of_the_rows(rows: _Rows, models: Iterable[str], found: Findings) -> None:
    table, user = rows.table, rows.user
    first = np.concatenate([[True], user[1:] != user[:-1]])[: len(user)]
    place = np.arange(len(user)) - np.maximum.accumulate(np.where(first, np.arange(len(user)), 0))
    rank, score = table[c.RANK].fill_null(0).to_numpy(), table[c.SCORE].fill_null(np.nan).to_numpy()
    rises = np.concatenate([[False], (score[1:] > score[:-1]) & ~first[1:]])[: len(user)]
    key = user.astype(np.int64) * (len(rows.items) + 1) + rows.item
    again = np.ones(len(key), bool)
    again[np.unique(key, return_index=True)[1]] = False
    null = np.zeros(len(user), bool)
    for name in _COLUMNS:
        if name != c.BECAUSE:
            null |= table[name].is_null().to_numpy()
    unsaid = table[c.BECAUSE].is_null().to_numpy() & ~_among(table[c.SOURCE], pa.array([c.POPULARITY]))
    bad = {
        RANKS: rank != place + 1,
        PAIRS: again,
        SCORES: rises | ~np.isfinite(score),
        SOURCES: ~_among(table[c.SOURCE], pa.array(list(models), pa.string())),
        NULLS: null,
        REASONS: unsaid & rows.explained,
    }
    for law, which in bad.items():
        found.add(law, int(which.sum()), rows.example(which))


def _laws_of_the_run(rows: _Rows, run: Run, served: np.ndarray, found: Findings) -> None:
    user_idx = _indices(run.clean / "users", "users", c.USER_ID, c.USER_IDX, rows.users)
    item_idx = _indices(run.clean / "items", "items", c.ITEM_ID, c.ITEM_IDX, rows.items)
    unknown = (user_idx[rows.user] < 0) | (item_idx[rows.item] < 0)
    found.add(KNOWN, int(unknown.sum()), rows.example(unknown))
    known = user_idx[user_idx >= 0]
    twice = served[known]
    found.add(ONE_FILE, int(twice.sum()), rows.example(np.isin(user_idx[rows.user], known[twice])))
    served[known] = True
    for law, ids in ((WITHDRAWN, run.withdrawn), (BLOCKED, run.blocked)):
        bad = _among(rows.items, ids)[rows.item]
        found.add(law, int(bad.sum()), rows.example(bad))
    because = rows.table[c.BECAUSE].combine_chunks().dictionary_encode()
    reason_idx = _indices(run.clean / "items", "items", c.ITEM_ID, c.ITEM_IDX, because.dictionary)
    reason = np.append(reason_idx, -1)[because.indices.fill_null(len(reason_idx)).to_numpy()]
    user, item = user_idx[rows.user], item_idx[rows.item]
    seen, own = _met(np.stack([user, user]), np.stack([item, reason]), run.clean / "interactions")
    found.add(SEEN, int(seen.sum()), rows.example(seen))
    strange = because.is_valid().to_numpy(zero_copy_only=False) & ~own
    found.add(OWN_REASONS, int(strange.sum()), rows.example(strange))


def _met(user: np.ndarray, item: np.ndarray, interactions: Path) -> np.ndarray:
    """bool, in the shape of `user` and `item` (indices, -1: unknown): which pairs are interactions. These stream by; only the pairs asked for stay."""
    asked = user << 32 | item
    pairs = np.unique(asked[(user >= 0) & (item >= 0)])
    met = np.zeros(len(pairs), bool)
    for batch in _batches(interactions, "interactions", [c.USER_IDX, c.ITEM_IDX]) if len(pairs) else ():
        keys = batch.column(0).to_numpy() << 32 | batch.column(1).to_numpy()
        place = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
        met[place[pairs[place] == keys]] = True
    return np.isin(asked, pairs[met])


def _every_user(run: Run, served: np.ndarray, found: Findings) -> None:
    excused = _exhausted(run, ~served) if not served.all() else np.zeros(len(served), bool)
    found.exhausted = int(excused.sum())
    for batch in _batches(run.clean / "users", "users", [c.USER_IDX, c.USER_ID]):
        missing = ~(served | excused)[batch.column(0).to_numpy()]
        found.add(
            EVERY_USER,
            int(missing.sum()),
            lambda b=batch, m=missing: f"user_id={b.column(1)[int(np.argmax(m))].as_py()!r}",
        )


def _exhausted(run: Run, asked: np.ndarray) -> np.ndarray:
    """bool [users]: which of the users `asked` (bool) have seen every item that is neither withdrawn nor blocked."""
    items = tables.read_arrow(run.clean / "items", "items", [c.ITEM_IDX, c.ITEM_ID])
    hidden = _among(items[c.ITEM_ID], run.withdrawn) | _among(items[c.ITEM_ID], run.blocked)
    showable = items[c.ITEM_IDX].to_numpy()[~hidden]
    pairs = [np.empty(0, np.int64)]
    for batch in _batches(run.clean / "interactions", "interactions", [c.USER_IDX, c.ITEM_IDX]):
        user, item = batch.column(0).to_numpy(), batch.column(1).to_numpy()
        kept = asked[user] & np.isin(item, showable)
        pairs.append(np.unique(user[kept] << 32 | item[kept]))
    seen = np.bincount(np.unique(np.concatenate(pairs)) >> 32, minlength=len(asked))
    return asked & (seen == len(showable))


def _indices(folder: Path, table: str, name: str, index: str, wanted: pa.Array) -> np.ndarray:
    """int64 [len(wanted)]: the dense index of each external id, -1 for one that the table lacks."""
    found = np.full(len(wanted), -1, np.int64)
    rows = _dataset(folder, table).to_table(columns=[name, index], filter=pc.field(name).isin(wanted))
    found[pc.index_in(rows[name], value_set=wanted).to_numpy()] = rows[index].to_numpy()
    return found


def _batches(folder: Path, table: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    yield from _dataset(folder, table).to_batches(columns=columns)


def _dataset(folder: Path, table: str) -> ds.Dataset:
    """The table, to be read in batches (`store.read_arrow` would hold all of it)."""
    return ds.dataset(folder, schema=contracts.load(table).arrow_schema(), format="parquet")


def _among(values: Any, words: pa.Array) -> np.ndarray:
    found = pc.is_in(values, value_set=words)
    return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy(), bool)


def _versions(table: pa.Table) -> set[tuple[str, str]]:
    distinct = table.group_by([c.RUN_ID, c.MODEL_VERSION]).aggregate([])
    return {(str(row[c.RUN_ID]), str(row[c.MODEL_VERSION])) for row in distinct.to_pylist()}


def _told(row: dict[str, Any]) -> str:
    return " ".join(f"{name}={row[name]!r}" for name in _COLUMNS[:6])
