"""Checks the constraints of the published table over its Parquet files, without Spark.

The publish stage checks a night before its commit, and `recsys check` checks a published one.

Memory: one file of the night at a time (about 200 bytes per row), one byte per user, the items table, and batches of
the run's clean tables. A larger `publish.files` lowers it. Time: one pass over the run's interactions per file.

Arrays of a file, in (user, rank) order:  R rows · U users, numbered as they appear in the file · I items likewise
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
from recsys_spark import registry
from recsys_spark.storage import contract as contracts
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import Layout

RANKS = "ranks run 1..n without gaps for each user"
PAIRS = "no (user, item) pair appears twice"
SCORES = "scores are finite and do not rise with rank"
SOURCES = "each row's source is a known model"
ONE_RUN = "one run_date has one run_id and one model_version"
NULLS = f"no column but {c.BECAUSE} is null"
EXPLAINED = "every row has an explanation, unless its source is popularity"
ONE_FILE = "the rows of a user are in one file"
KNOWN = "every user and item is in the run's tables"
SEEN = "no item is recommended to a user who has interacted with it"
EXPLANATIONS = "every explanation is an item of the user's history"
WITHDRAWN = "no withdrawn item is recommended"
BLOCKED = "no blocked item is recommended"
EVERY_USER = "every user of the run's users table has rows, unless no item is left to recommend"

CONSTRAINTS = (
    RANKS, PAIRS, SCORES, SOURCES, ONE_RUN, NULLS, EXPLAINED, ONE_FILE, KNOWN, SEEN, EXPLANATIONS, WITHDRAWN, BLOCKED,
    EVERY_USER,
)  # fmt: skip
NEED_THE_RUN = (ONE_FILE, KNOWN, SEEN, EXPLANATIONS, WITHDRAWN, BLOCKED, EVERY_USER)
"""The constraints that are checked against the folder of the run that made the rows."""

_COLUMNS = (c.USER_ID, c.ITEM_ID, c.RANK, c.SCORE, c.SOURCE, c.BECAUSE, c.RUN_ID, c.MODEL_VERSION)
_SOURCES = (*registry.names(), *c.FORMER_NAMES)
"""Valid values of `source` when the run's own models are not known."""


@dataclass
class CheckResult:
    """The outcome of a check.

    `violations` maps a constraint to the number of rows or users that break it and the first of them as text.
    `unchecked` maps a constraint to the reason why it could not be checked. `exhausted` counts the users without rows
    for whom no item is left.
    """

    rows: int = 0
    users: int = 0
    files: int = 0
    exhausted: int = 0
    violations: dict[str, tuple[int, str]] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)

    def add(self, constraint: str, count: int, example: Callable[[], str]) -> None:
        """Count violations; only the first call per constraint evaluates `example`."""
        if count:
            before, first = self.violations.get(constraint, (0, ""))
            self.violations[constraint] = before + count, first or example()

    def summary(self) -> str:
        """Return the violations in one line."""
        return "; ".join(
            f"{constraint}: violated {count:,} times, e.g. {example}"
            for constraint, (count, example) in self.violations.items()
        )


@dataclass(frozen=True)
class _Run:
    """The tables of the run that made a night."""

    layout: Layout
    withdrawn: pa.Array
    blocked: pa.Array
    n_users: int
    models: tuple[str, ...]

    @classmethod
    def read(cls, layout: Layout, output_id: str | None) -> _Run | str:
        """Return the run, or the reason why its constraints cannot be checked."""
        clean, score = manifest.read(layout.stage("clean")), manifest.read(layout.stage("score", c.RELEASE))
        if clean is None or score is None:
            return f"run folder {layout.run} is missing or incomplete"
        if "clean" in manifest.changed_inputs(layout, score) or output_id not in (None, score.output_id):
            return f"run folder {layout.run} has changed since the night was published"
        items = tables.read_arrow(layout.clean_table("items"), "items", [c.ITEM_ID, c.WITHDRAWN])
        blocked = json.loads(layout.table("score", c.RELEASE, "blocked.json").read_text(encoding="utf-8"))
        return cls(
            layout=layout,
            withdrawn=items.filter(items[c.WITHDRAWN])[c.ITEM_ID].combine_chunks(),
            blocked=pa.array(blocked, pa.string()),
            n_users=int(clean.counts["n_users"]),
            models=tuple(score.counts.get("models", _SOURCES)),
        )

    def dataset(self, table: str) -> ds.Dataset:
        """Return a clean table to be read in batches, because `tables.read_arrow` would load all of it."""
        schema = contracts.load(table).arrow_schema()
        return ds.dataset(self.layout.clean_table(table), schema=schema, format="parquet")

    def batches(self, table: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self.dataset(table).to_batches(columns=columns)

    def indices(self, table: str, id_column: str, index_column: str, ids: pa.Array) -> np.ndarray:
        """Return int64 [len(ids)]: the dense index of each external id, -1 for one that is not in the table."""
        indices = np.full(len(ids), -1, np.int64)
        rows = self.dataset(table).to_table(columns=[id_column, index_column], filter=pc.field(id_column).isin(ids))
        indices[pc.index_in(rows[id_column], value_set=ids).to_numpy()] = rows[index_column].to_numpy()
        return indices


@dataclass(frozen=True)
class _Rows:
    """One file in (user, rank) order. user, item int64 [R] are positions in users [U] and items [I], Arrow strings.

    `has_explanations` is False for nights that an old version published without the column `because`.
    """

    table: pa.Table
    user: np.ndarray
    item: np.ndarray
    users: pa.Array
    items: pa.Array
    has_explanations: bool

    @classmethod
    def read(cls, file: Path) -> _Rows:
        table = pq.ParquetFile(file).read(columns=list(_COLUMNS))
        has_explanations = c.BECAUSE in table.column_names
        if not has_explanations:
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
            has_explanations,
        )

    def example(self, bad: np.ndarray) -> Callable[[], str]:
        """Return a function that describes the first of the rows `bad` (bool [R])."""

        def describe() -> str:
            row = self.table.slice(int(np.argmax(bad)), 1).to_pylist()[0]
            return " ".join(f"{name}={row[name]!r}" for name in _COLUMNS[:6])

        return describe


def check(files: Sequence[Path], layout: Layout, output_id: str | None = None) -> CheckResult:
    """Check every constraint on the files of one night that the run of `layout` made.

    `output_id` is the id of the score stage's output that was published, or None before the publication.
    """
    result = CheckResult()
    run = _Run.read(layout, output_id)
    if isinstance(run, str):
        result.unchecked.update(dict.fromkeys(NEED_THE_RUN, run))
    served = np.zeros(run.n_users if isinstance(run, _Run) else 0, bool)
    versions: set[tuple[str, str]] = set()
    for file in files:
        rows = _Rows.read(file)
        result.files += 1
        result.rows += len(rows.user)
        result.users += len(rows.users)
        if not rows.has_explanations:
            reason = f"published before the table had the column {c.BECAUSE}"
            result.unchecked.update(dict.fromkeys((EXPLAINED, EXPLANATIONS), reason))
        _check_rows(rows, run.models if isinstance(run, _Run) else _SOURCES, result)
        versions |= _versions(rows.table)
        if isinstance(run, _Run):
            _check_against_run(rows, run, served, result)
    # the caller took the run id from the rows, so rows of another run show as other ids here
    others = sorted(v for v in versions if v[0] != layout.run_id) or sorted(versions)[1:]
    result.add(
        ONE_RUN,
        len(others),
        lambda: f"run_id={others[0][0]!r} model_version={others[0][1]!r} in a night of run {layout.run_id!r}",
    )
    if isinstance(run, _Run):
        _check_every_user(run, served, result)
    return result


def _check_rows(rows: _Rows, models: Iterable[str], result: CheckResult) -> None:
    """Check the constraints that need nothing but the rows."""
    table, user = rows.table, rows.user
    first = np.concatenate([[True], user[1:] != user[:-1]])[: len(user)]
    position = np.arange(len(user)) - np.maximum.accumulate(np.where(first, np.arange(len(user)), 0))
    rank, score = table[c.RANK].fill_null(0).to_numpy(), table[c.SCORE].fill_null(np.nan).to_numpy()
    rises = np.concatenate([[False], (score[1:] > score[:-1]) & ~first[1:]])[: len(user)]
    pair = user.astype(np.int64) * (len(rows.items) + 1) + rows.item
    repeated = np.ones(len(pair), bool)
    repeated[np.unique(pair, return_index=True)[1]] = False
    null = np.zeros(len(user), bool)
    for name in _COLUMNS:
        if name != c.BECAUSE:
            null |= table[name].is_null().to_numpy()
    unexplained = table[c.BECAUSE].is_null().to_numpy() & ~_is_in(table[c.SOURCE], pa.array([c.POPULARITY]))
    violations = {
        RANKS: rank != position + 1,
        PAIRS: repeated,
        SCORES: rises | ~np.isfinite(score),
        SOURCES: ~_is_in(table[c.SOURCE], pa.array(list(models), pa.string())),
        NULLS: null,
        EXPLAINED: unexplained & rows.has_explanations,
    }
    for constraint, bad in violations.items():
        result.add(constraint, int(bad.sum()), rows.example(bad))


def _check_against_run(rows: _Rows, run: _Run, served: np.ndarray, result: CheckResult) -> None:
    """Check the rows against the run's tables; mark the file's users in `served`, bool [users of the run]."""
    user_idx = run.indices("users", c.USER_ID, c.USER_IDX, rows.users)
    item_idx = run.indices("items", c.ITEM_ID, c.ITEM_IDX, rows.items)
    unknown = (user_idx[rows.user] < 0) | (item_idx[rows.item] < 0)
    result.add(KNOWN, int(unknown.sum()), rows.example(unknown))
    known = user_idx[user_idx >= 0]
    again = served[known]
    result.add(ONE_FILE, int(again.sum()), rows.example(np.isin(user_idx[rows.user], known[again])))
    served[known] = True
    for constraint, ids in ((WITHDRAWN, run.withdrawn), (BLOCKED, run.blocked)):
        bad = _is_in(rows.items, ids)[rows.item]
        result.add(constraint, int(bad.sum()), rows.example(bad))
    because = rows.table[c.BECAUSE].combine_chunks().dictionary_encode()
    indices = run.indices("items", c.ITEM_ID, c.ITEM_IDX, because.dictionary)
    explanation = np.append(indices, -1)[because.indices.fill_null(len(indices)).to_numpy()]
    user, item = user_idx[rows.user], item_idx[rows.item]
    seen, in_history = _interacted(np.stack([user, user]), np.stack([item, explanation]), run)
    result.add(SEEN, int(seen.sum()), rows.example(seen))
    wrong = because.is_valid().to_numpy(zero_copy_only=False) & ~in_history
    result.add(EXPLANATIONS, int(wrong.sum()), rows.example(wrong))


def _interacted(user: np.ndarray, item: np.ndarray, run: _Run) -> np.ndarray:
    """Return bool, in the shape of `user` and `item` (indices, -1: unknown): which pairs are interactions of the run.

    The interactions are read in batches, and only the pairs in question are kept.
    """
    pairs = user << 32 | item
    queried = np.unique(pairs[(user >= 0) & (item >= 0)])
    present = np.zeros(len(queried), bool)
    for batch in run.batches("interactions", [c.USER_IDX, c.ITEM_IDX]) if len(queried) else ():
        keys = batch.column(0).to_numpy() << 32 | batch.column(1).to_numpy()
        position = np.minimum(np.searchsorted(queried, keys), len(queried) - 1)
        present[position[queried[position] == keys]] = True
    return np.isin(pairs, queried[present])


def _check_every_user(run: _Run, served: np.ndarray, result: CheckResult) -> None:
    exhausted = _exhausted(run, ~served) if not served.all() else np.zeros(len(served), bool)
    result.exhausted = int(exhausted.sum())
    for batch in run.batches("users", [c.USER_IDX, c.USER_ID]):
        missing = ~(served | exhausted)[batch.column(0).to_numpy()]
        result.add(
            EVERY_USER,
            int(missing.sum()),
            lambda b=batch, m=missing: f"user_id={b.column(1)[int(np.argmax(m))].as_py()!r}",
        )


def _exhausted(run: _Run, users: np.ndarray) -> np.ndarray:
    """Return bool [users of the run]: which of `users` (bool) have seen every item that may be recommended."""
    items = tables.read_arrow(run.layout.clean_table("items"), "items", [c.ITEM_IDX, c.ITEM_ID])
    hidden = _is_in(items[c.ITEM_ID], run.withdrawn) | _is_in(items[c.ITEM_ID], run.blocked)
    eligible = items[c.ITEM_IDX].to_numpy()[~hidden]
    pairs = [np.empty(0, np.int64)]
    for batch in run.batches("interactions", [c.USER_IDX, c.ITEM_IDX]):
        user, item = batch.column(0).to_numpy(), batch.column(1).to_numpy()
        kept = users[user] & np.isin(item, eligible)
        pairs.append(np.unique(user[kept] << 32 | item[kept]))
    seen = np.bincount(np.unique(np.concatenate(pairs)) >> 32, minlength=len(users))
    return users & (seen == len(eligible))


def _is_in(values: Any, ids: pa.Array) -> np.ndarray:
    result = pc.is_in(values, value_set=ids)
    return np.asarray(
        result.to_numpy(zero_copy_only=False) if isinstance(result, pa.Array) else result.to_numpy(), bool
    )


def _versions(table: pa.Table) -> set[tuple[str, str]]:
    distinct = table.group_by([c.RUN_ID, c.MODEL_VERSION]).aggregate([])
    return {(str(row[c.RUN_ID]), str(row[c.MODEL_VERSION])) for row in distinct.to_pylist()}
