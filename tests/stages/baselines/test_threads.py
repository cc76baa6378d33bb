"""Fits and lists on one core equal those on two, in Spark sessions and with threads of arithmetic of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.spark

REPO = Path(__file__).parents[3]
CODE = """
import sys
from pathlib import Path
import numpy as np
import scipy.sparse as sp
from recsys_spark.models.als import AlsModel
from recsys_spark.spark.session import make_session
from recsys_spark.stages.baselines import als, item_knn
from recsys_spark.topk import Exclusions, top_k
from stages.baselines.local import histories_of, put_pairs
from stages.baselines.test_als import OBJECTIVE
from stages.baselines.test_item_knn import FULL

folder, cores = Path(sys.argv[1]), sys.argv[2]
matrix = sp.random(600, 2000, 0.02, "csr", np.float32, np.random.default_rng(3))
matrix[:, 0] = 0
matrix.eliminate_zeros()
spark = make_session(
    app_name="threads", master=f"local[{cores}]", shuffle_partitions=2,
    options={
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
    },
)
pairs = put_pairs(folder / "pairs", matrix, 5)
sizes = {"factors": 64, "iterations": 3, "seed": 7, "objective": OBJECTIVE}
factors, objectives = als.fit_pairs(spark.sparkContext, pairs, folder / "als", **sizes)
table = item_knn.fit_pairs(spark.sparkContext, pairs, folder / "table", neighbours=50, similarity=FULL)
spark.stop()
histories = histories_of(matrix)
results = {"als.scores": factors.score_tile(factors.encode(histories), 0, 2000), "als.objectives": np.array(objectives)}
results |= {f"item_knn.{name}": array for name, array in table.arrays.items()}
vectors = [np.random.default_rng(seed).random((n, 64), np.float32) for seed, n in ((5, 2000), (6, 600))]
products = AlsModel(2000, {}, {"items": vectors[0]})
exclusions = Exclusions(np.arange(2000) == 0, histories)
for name, model, users in (("table", table, table.encode(histories)), ("products", products, vectors[1])):
    results[f"{name}.list"], results[f"{name}.scores"] = top_k(model, users, exclusions, 20, 256)
np.savez(folder / "results.npz", **results)
"""


def on_cores(folder: Path, cores: int) -> dict[str, np.ndarray]:
    """Return the results of CODE."""
    threads = {f"{name}_NUM_THREADS": str(cores) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")}
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(cores)],
        env={**os.environ, **threads, "PYTHONPATH": path},
        check=True,
    )
    return dict(np.load(folder / "results.npz"))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a machine of one core")
def test_one_core_and_two_give_the_same_tables_and_lists_up_to_rounding(tmp_path):
    one, two = (on_cores(tmp_path / str(cores), cores) for cores in (1, 2))
    assert len(one) == len(two) > 8
    for name, array in one.items():
        if name.startswith("als") or name == "products.scores":
            np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(two[name], array, err_msg=name)
