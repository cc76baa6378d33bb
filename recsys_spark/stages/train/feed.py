"""The feed: Petastorm between the `examples` table and the training loop. The only file that imports petastorm.

A worker reads its own row groups in an order that is drawn for each epoch, and shuffles the rows of each group.
Everything follows from (seed, epoch, rank), so a resumed epoch has the same batches.

Shapes:  B examples of a batch · L history window
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

# Petastorm calls pyarrow's legacy interface, which warns at every file, from Petastorm's own threads
warnings.filterwarnings("ignore", category=FutureWarning, module="petastorm")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="petastorm")

from petastorm import make_batch_reader  # noqa: E402
from petastorm.arrow_reader_worker import ArrowReaderWorkerResultsQueueReader  # noqa: E402
from petastorm.workers_pool import EmptyResultError  # noqa: E402

COLUMNS = {"item_idx": np.int32, "history": np.int32, "recency": np.uint8}
"""The columns that training reads, and their number type. Windows are stored as bytes."""

Columns = dict[str, np.ndarray]


def batch_plan(examples: int, workers: int, batch_size: int) -> tuple[int, int]:
    """Return (steps, batch) of every worker. All ranks must take the same number of steps, or one would wait forever.

    `examples` is the table's row count, a multiple of `workers` because its row groups are equal.
    """
    share = examples // workers
    batch = min(batch_size, share)
    return share // batch, batch


def batches(
    folder: Path, *, rank: int, size: int, batch: int, steps: int, seed: int, epoch: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the `steps` batches of worker `rank`: item_idx int32 [B], history and recency int32 [B, L].

    No example comes twice in an epoch. The rows that do not fill a last batch are left out, others in each epoch.
    """
    rng = np.random.default_rng([seed, epoch, rank])
    rest: Columns | None = None
    for columns in _row_groups(folder, rank, size, int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])):
        if rest is not None:
            columns = {name: np.concatenate([rest[name], columns[name]]) for name in COLUMNS}
        order = rng.permutation(len(columns["item_idx"]))
        full = min(steps, len(order) // batch)
        for start in range(0, full * batch, batch):
            yield {name: _tensor(values, order[start : start + batch]) for name, values in columns.items()}
        steps -= full
        rest = {name: values.take(order[full * batch :], axis=0) for name, values in columns.items()}


def _tensor(values: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(values.take(rows, axis=0).astype(np.int32, copy=False))


def _row_groups(folder: Path, rank: int, size: int, seed: int) -> Iterator[Columns]:
    # files by name: a folder is listed in no certain order, and it decides which row groups a rank reads
    urls = [path.resolve().as_uri() for path in sorted(folder.glob("*.parquet"))]
    with make_batch_reader(
        urls,
        schema_fields=[f"^{name}$" for name in COLUMNS],
        reader_pool_type="thread",
        workers_count=1,  # two would return row groups in the order in which they happen to be ready
        results_queue_size=2,
        shuffle_row_groups=True,
        seed=seed,
        cur_shard=rank,
        shard_count=size,
    ) as reader:
        # Petastorm's own makes a Python object of every window, and the feed then takes 2.6 times as long
        reader._results_queue_reader = _ArrowColumns()
        yield from reader


class _ArrowColumns(ArrowReaderWorkerResultsQueueReader):
    """Returns a row group as numpy columns without touching single rows."""

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> Columns:
        try:
            table: pa.Table = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return {name: as_numbers(table.column(name), kind) for name, kind in COLUMNS.items()}


def as_numbers(column: pa.ChunkedArray, kind: type[np.number[Any]]) -> np.ndarray:
    """Return a column without nulls: [n], or for bytes of equal length [n, L], as `b"".join` of the rows would give."""
    flat = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    if not pa.types.is_binary(flat.type):
        return np.asarray(flat)
    _, offsets, values = flat.buffers()
    ends = np.frombuffer(offsets, np.int32)[flat.offset : flat.offset + len(flat) + 1]
    return np.frombuffer(values, kind, (ends[-1] - ends[0]) // np.dtype(kind).itemsize, ends[0]).reshape(len(flat), -1)
