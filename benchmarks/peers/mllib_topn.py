"""Scores with Spark MLlib: `ALSModel.recommendForAllUsers(20)` in local[2], written as Parquet, with seen items.

    mllib_topn.py FOLDER [--users N]    scores the first N users of FOLDER and prints the seconds

An ALSModel can only be fitted or read. So a small one is fitted and saved, its factors are replaced by those of FOLDER,
and it is read again. When the clock starts, the factors are cached, and 5,000 users have been scored four times.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.recommendation import ALS, ALSModel
from session import session

BLOCKS = 10  # MLlib's own numUserBlocks and numItemBlocks


def write_factors(folder: Path, factors: np.ndarray) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    schema = pa.schema({"id": pa.int32(), "features": pa.list_(pa.float32())})
    for block in range(BLOCKS):
        ids = np.arange(block, len(factors), BLOCKS, dtype=np.int32)
        flat = np.ascontiguousarray(factors[ids]).ravel()
        lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), factors.shape[1])
        table = pa.table([pa.array(ids), lists.cast(schema.field("features").type)], schema=schema)
        pq.write_table(table, folder / f"part-{block:05}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int)
    parser.add_argument("--partitions", type=int, default=8)
    arguments = parser.parse_args()
    spark = session(arguments.partitions)
    users = np.load(arguments.folder / "user_factors.npy", mmap_mode="r")[: arguments.users]
    items = np.load(arguments.folder / "item_factors.npy", mmap_mode="r")
    tiny = spark.createDataFrame([(u, i, 1.0) for u in range(4) for i in range(4)], ["user", "item", "rating"])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        saved = Path(folder) / "model"
        ALS(rank=items.shape[1], maxIter=1, userCol="user", itemCol="item").fit(tiny).save(str(saved))
        write_factors(saved / "userFactors", users)
        write_factors(saved / "itemFactors", items)
        model = ALSModel.load(str(saved))
        for factors in (model.userFactors, model.itemFactors):
            factors.cache().count()
        few = model.userFactors.select("id").limit(5000).withColumnRenamed("id", "user").cache()
        warming = []
        for _ in range(4):
            clock = time.perf_counter()
            model.recommendForUserSubset(few, 20).write.mode("overwrite").parquet(f"{folder}/warm")
            warming.append(round(time.perf_counter() - clock, 2))
        clock = time.perf_counter()
        model.recommendForAllUsers(20).write.parquet(f"{folder}/top")
        seconds = time.perf_counter() - clock
        rows = spark.read.parquet(f"{folder}/top").count()
    spark.stop()
    print(json.dumps({"seconds": seconds, "users": len(users), "rows": rows, "warming_up_seconds": warming}))


if __name__ == "__main__":
    main()
