"""Fits Spark MLlib's ALS with implicit preferences in local[2]. The pairs are cached before the clock starts.

    mllib_als.py TRAIN.npz OUT --factors F --iterations N --regularization L --confidence C

Prints the seconds of `fit` and writes the factors to OUT. C is the confidence of an observed pair, and all other
pairs have confidence 1. MLlib multiplies L by the number of pairs of a row.
"""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from als_arguments import parse
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from session import session


def matrix(factors: DataFrame, rows: int, columns: int) -> np.ndarray:
    full = np.zeros((rows, columns), np.float32)
    for row in factors.collect():
        full[row["id"]] = row["features"]
    return full


def main() -> None:
    a = parse()
    train = sp.load_npz(a.train).tocoo()
    spark = session(2)
    pairs = a.out.with_suffix(".parquet")
    pq.write_table(pa.table({"user": train.row, "item": train.col, "rating": train.data}), pairs)
    frame = spark.read.parquet(str(pairs)).repartition(2).cache()
    frame.count()
    als = ALS(
        rank=a.factors,
        maxIter=a.iterations,
        regParam=a.regularization,
        alpha=a.confidence - 1,
        implicitPrefs=True,
        userCol="user",
        itemCol="item",
        seed=7,
    )
    clock = time.perf_counter()
    model = als.fit(frame)
    seconds = time.perf_counter() - clock
    users, items = (
        matrix(part, rows, a.factors) for part, rows in zip((model.userFactors, model.itemFactors), train.shape)
    )
    np.savez(a.out, users=users, items=items)
    spark.stop()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
