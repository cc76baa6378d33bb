"""The same on one core and on two: in sessions of their own, with as many threads of arithmetic."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).parents[3]
CODE = """
import sys
from pathlib import Path
import numpy as np
import scipy.sparse as sp
from baselines.local import put_pairs
from baselines.test_als import OBJECTIVE, histories_of
from baselines.test_item_knn import FULL
from recsys_spark.stages.baselines import als, item_knn
from recsys_spark.models.heap import Hidden
from recsys_spark.models.als import FactorModel
from recsys_spark.topk.search import top_candidates
from recsys_spark.spark.session import make_session

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
factors, objectives = als.fit(spark.sparkContext, pairs, folder / "als", **sizes)
table = item_knn.fit(spark.sparkContext, pairs, folder / "table", neighbours=50, similarity=FULL)
spark.stop()
histories = histories_of(matrix)
hidden = Hidden(np.arange(matrix.shape[1]) == 0, histories)
told = {"als.items": factors.arrays["items"], "als.objectives": np.array(objectives)}
told |= {f"cosine.{name}": array for name, array in table.arrays.items()}
given = FactorModel(matrix.shape[1], {}, {"items": np.random.default_rng(5).random((matrix.shape[1], 64), np.float32)})
asked = {"cosine": table.encode(histories), "factors": np.random.default_rng(6).random((matrix.shape[0], 64), np.float32)}
for name, model in {"cosine": table, "factors": given}.items():
    told[f"{name}.list"], told[f"{name}.scores"] = top_candidates(model, asked[name], hidden, 20, 256)
np.savez(folder / "told.npz", **told)
"""


def on_cores(folder: Path, cores: int) -> dict[str, np.ndarray]:
    """What CODE says."""
    threads = {f"{name}_NUM_THREADS": str(cores) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")}
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(cores)],
        env={**os.environ, **threads, "PYTHONPATH": path},
        check=True,
    )
    return dict(np.load(folder / "told.npz"))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a machine of one core")
def test_tables_and_lists_are_the_same_bits_on_one_core_and_on_two_and_factors_but_for_rounding(tmp_path):
    one, two = (on_cores(tmp_path / str(cores), cores) for cores in (1, 2))
    assert len(one) == len(two) > 8
    for name, array in one.items():
        if name.startswith("als"):
            np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(two[name], array, err_msg=name)
