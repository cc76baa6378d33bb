"""Petastorm, and nothing else, between the `examples` table and the training loop. The only file that imports it.

A worker reads its own row groups, in an order drawn anew each epoch, and shuffles rows as they pass. Everything follows from
(seed, epoch, rank), so an epoch is the same whether or not the training was interrupted before it.

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

# it speaks to Arrow's legacy interface, which warns at every file that is opened, from threads of petastorm's own
warnings.filterwarnings("ignore", category=FutureWarning, module="petastorm")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="petastorm")

from petastorm import make_batch_reader  # noqa: E402
from petastorm.arrow_reader_worker import ArrowReaderWorkerResultsQueueReader  # noqa: E402
from petastorm.workers_pool import EmptyResultError, thread_pool  # noqa: E402

thread_pool.IO_TIMEOUT_INTERVAL_S = 0.02  # [s]
"""How often the reading thread, which waits for room in the queue most of the time, wakes to see whether it is to stop. A thousand times a second as it
is released: 4 % of a core, and each time the arithmetic is interrupted. Room wakes it at once; an epoch's end waits for it."""

COLUMNS = {"item_idx": np.int32, "history": np.int32, "recency": np.uint8}
"""Those that training reads, and the numbers they hold: one in a row, or as many as a window is long, as bytes."""

Rows = dict[str, np.ndarray]


def batch_plan(examples: int, workers: int, batch_size: int) -> tuple[int, int]:
    """(steps, batch) of every worker: equal on all ranks, because one that steps more often would wait for the others for ever.

    `examples` is the table's row count, a multiple of `workers` since its row groups are equal. A share smaller than a batch is one batch.
    """
    share = examples // workers
    batch = min(batch_size, share)
    return share // batch, batch


def batches(
    folder: Path, *, rank: int, size: int, batch: int, steps: int, seed: int, epoch: int
) -> Iterator[dict[str, Tensor]]:
    """The `steps` batches of worker `rank` in `epoch`: item_idx int32 [B], history and recency int32 [B, L].

    No example comes twice in an epoch; the rows that do not fill a last batch are left out, others each time.
    """
    rng = np.random.default_rng([seed, epoch, rank])
    waiting: Rows | None = None
    left = steps
    for rows in _row_groups(folder, rank, size, int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])):
        if waiting is not None:
            rows = {k: np.concatenate([waiting[k], rows[k]]) for k in COLUMNS}
        order = rng.permutation(len(rows["item_idx"]))
        whole = min(left, len(order) // batch)
        for start in range(0, whole * batch, batch):
            yield _batch(rows, order[start : start + batch])
        left -= whole
        waiting = {k: v.take(order[whole * batch :], axis=0) for k, v in rows.items()}


def _batch(rows: Rows, chosen: np.ndarray) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v.take(chosen, axis=0).astype(np.int32, copy=False)) for k, v in rows.items()}


def _row_groups(folder: Path, rank: int, size: int, seed: int) -> Iterator[Rows]:
    # files by name: a folder is listed in no certain order, and which row groups a rank gets depends on theirs
    urls = [path.resolve().as_uri() for path in sorted(folder.glob("*.parquet"))]
    reader = make_batch_reader(
        urls,
        schema_fields=[f"^{name}$" for name in COLUMNS],
        reader_pool_type="thread",
        workers_count=1,  # two would hand over row groups in the order they happen to be ready
        results_queue_size=2,
        shuffle_row_groups=True,
        seed=seed,
        cur_shard=rank,
        shard_count=size,
    )
    # the reader's own way makes an object of each row
    reader._results_queue_reader = _Columns()
    with reader:
        yield from reader


class _Columns(ArrowReaderWorkerResultsQueueReader):
    """Hands over a row group as numpy columns, windows as matrices, without touching single rows."""

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> Rows:
        try:
            table: pa.Table = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return {name: as_numbers(table.column(name), kind) for name, kind in COLUMNS.items()}


def as_numbers(column: pa.ChunkedArray, kind: type[np.number[Any]]) -> np.ndarray:
    """The column, [n] or, when it holds bytes, [n, L]. No value is null and all have one length: the contract of `examples`."""
    flat = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    if not pa.types.is_binary(flat.type):
        return np.asarray(flat)
    _, offsets, values = flat.buffers()
    ends = np.frombuffer(offsets, np.int32)[flat.offset : flat.offset + len(flat) + 1]
    return np.frombuffer(values, kind, (ends[-1] - ends[0]) // np.dtype(kind).itemsize, ends[0]).reshape(len(flat), -1)
