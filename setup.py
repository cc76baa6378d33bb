"""Metadata of recsys_spark, and the one place where versions are pinned.

After a change here, `make lock` writes requirements.lock again.
"""

from setuptools import find_packages, setup

RUNTIME = [
    "pyspark==4.0.4",  # 4.1 asks for pyarrow >= 15
    "pyarrow==14.0.2",  # petastorm needs pyarrow.filesystem, gone in 15 and later
    "numpy==1.26.4",  # petastorm needs np.unicode_, gone in 2.0
    "pandas==2.3.3",
    "petastorm==0.12.1",  # 0.13 pins setuptools < 70, which torch refuses
    "torch==2.13.0",
    "scipy==1.17.1; python_version >= '3.11'",
    "scipy==1.15.3; python_version < '3.11'",
    "numba==0.68.1",
    "lightgbm==4.7.0",
    "deltalake==1.6.6",
    "pydantic==2.14.3",
    "PyYAML==6.0.3",
    "jinja2==3.1.6",
    "matplotlib==3.10.9",
    "safetensors==0.8.0",
]
HOROVOD = [
    "horovod==0.28.1",  # built from its source release by .make/horovod.sh
    "psutil==7.2.2",
    "cloudpickle==3.1.2",
    "PyYAML==6.0.3",
    "packaging==26.3",
    "cffi==2.1.1",
]
TUNE = [
    "optuna==5.0.0",  # only `recsys tune` uses it, and only on the driver
]
TEST = [
    "pytest==9.1.1",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.15; python_version >= '3.11'",
    "hypothesis==6.168.5; python_version < '3.11'",
    "scikit-learn==1.7.2",
]
LINT = [
    "ruff==0.17.6",
    "import-linter==2.16; python_version >= '3.11'",
    "import-linter==2.15; python_version < '3.11'",
    "mypy==2.4.1",
    "types-PyYAML==6.0.12.20261113",
]
PACKAGE = [
    "uv==0.13.9",  # installs requirements.lock
    "build==1.6.1",
    "setuptools==80.10.2",  # 82 has no pkg_resources, which horovod's build imports
    "wheel==0.45.1",
    "venv-pack==0.2.0",
]

setup(
    name="recsys_spark",
    version="0.2.0",
    description="A nightly batch recommender on PySpark, Petastorm, Horovod and PyTorch",
    author="recsys_spark contributors",
    license="Apache-2.0",
    python_requires=">=3.10,<3.12",
    packages=[*find_packages(include=["recsys_spark", "recsys_spark.*"]), "recsys_spark.schemas"],
    package_dir={"recsys_spark.schemas": "schemas"},
    package_data={
        "recsys_spark.schemas": ["*.json"],
        "recsys_spark.report": ["templates/*"],
    },
    entry_points={"console_scripts": ["recsys = recsys_spark.cli:main"]},
    install_requires=RUNTIME,
    extras_require={"horovod": HOROVOD, "tune": TUNE, "test": TEST, "lint": LINT, "package": PACKAGE},
)
