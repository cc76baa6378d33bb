"""Fits RePlay's ItemKNN on Spark in local[2], with 1,000 neighbours of each item.

    replay_itemknn.py FOLDER

Prints the seconds. FOLDER holds `indptr` and `indices` (CSR by user) as .npy files. The pairs are cached before the
clock starts, and it stops when the similarities are cached. ItemKNN has plain cosine only, which is less work than our
formula.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from replay.data import Dataset, FeatureHint, FeatureInfo, FeatureSchema, FeatureType
from replay.models import ItemKNN
from replay.utils.session_handler import State
from session import session

COLUMNS = {
    "user_id": FeatureHint.QUERY_ID,
    "item_id": FeatureHint.ITEM_ID,
    "rating": FeatureHint.RATING,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    indptr, indices = np.load(arguments.folder / "indptr.npy"), np.load(arguments.folder / "indices.npy")
    spark = session(shuffle_partitions=8)
    State(spark)
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    scratch = Path(tempfile.mkdtemp())
    try:
        frame = pd.DataFrame({"user_id": users, "item_id": indices.astype(np.int64), "rating": 1.0})
        frame.to_parquet(scratch / "pairs.parquet")
        pairs = spark.read.parquet(str(scratch / "pairs.parquet")).repartition(8).cache()
        pairs.count()
        kinds = (FeatureType.CATEGORICAL, FeatureType.CATEGORICAL, FeatureType.NUMERICAL)
        features = [FeatureInfo(n, k, hint) for (n, hint), k in zip(COLUMNS.items(), kinds, strict=True)]
        dataset = Dataset(FeatureSchema(features), pairs, categorical_encoded=True)
        clock = time.perf_counter()
        model = ItemKNN(num_neighbours=1000)
        model.fit(dataset)
        neighbours = model.similarity.count()
        print(json.dumps({"seconds": time.perf_counter() - clock, "neighbours": neighbours}))
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
