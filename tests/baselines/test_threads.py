"""The same bits on one core and on two: in sessions of their own, with as many threads of arithmetic."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
CODE = """
import hashlib, sys
from pathlib import Path
import numpy as np
import scipy.sparse as sp
from baselines.local import put_pairs
from baselines.test_als import OBJECTIVE, histories_of
from baselines.test_item_cosine import FULL
from recsys_spark.baselines import als, item_cosine
from recsys_spark.item_models.best import Hidden
from recsys_spark.score.topk import top_candidates
from recsys_spark.tables.session import make_session

folder, cores = Path(sys.argv[1]), sys.argv[2]
matrix = sp.random(600, 2000, 0.02, "csr", np.float32, np.random.default_rng(3))
matrix[:, 0] = 0
matrix.eliminate_zeros()
spark = make_session(
    app_name="threads", master=f"local[{cores}]", shuffle_partitions=2,
    options={"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"},
)
pairs = put_pairs(folder / "pairs", matrix, 5)
sizes = {"factors": 64, "iterations": 3, "seed": 7, "objective": OBJECTIVE}
factors, objectives = als.fit(spark.sparkContext, pairs, folder / "als", **sizes)
table = item_cosine.fit(spark.sparkContext, pairs, folder / "table", neighbours=50, similarity=FULL)
spark.stop()
histories = histories_of(matrix)
hidden = Hidden(np.arange(matrix.shape[1]) == 0, histories)
told = {"objectives": np.array(objectives)}
for model in (factors, table):
    told |= {f"{model.kind} {name}": array for name, array in model.arrays.items()}
    for name, found in zip(("items", "scores"), top_candidates(model, model.encode(histories), hidden, 20, 256)):
        told[f"{model.kind} lists' {name}"] = found
for name, array in told.items():
    print("TOLD", name, array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
"""


def on_cores(folder: Path, cores: int) -> list[str]:
    """What CODE says of its arrays."""
    threads = {
        f"{name}_NUM_THREADS": str(cores) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")
    }
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(cores)],
        env={**os.environ, **threads, "PYTHONPATH": path},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [line for line in done.stdout.splitlines() if line.startswith("TOLD")]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a machine of one core")
def test_models_and_lists_are_the_same_bits_on_one_core_and_on_two(tmp_path):
    one, two = (on_cores(tmp_path / str(cores), cores) for cores in (1, 2))
    assert len(one) > 8
    assert two == one
