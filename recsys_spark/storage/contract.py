"""Contracts of the tables: one JSON file per table in `schemas/`, rendered to Spark, Arrow and numpy types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from recsys_spark.errors import ContractViolation

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pyspark.sql.types import StructType

_PACKAGE = files("recsys_spark")
# a wheel holds the contracts inside the package, a checkout beside it
_FOLDERS: tuple[Traversable, ...] = (_PACKAGE / "schemas", _PACKAGE / ".." / "schemas")

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
    "list<int32>": pa.list_(pa.int32()),
    "list<int64>": pa.list_(pa.int64()),
    "list<float32>": pa.list_(pa.float32()),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}
_SPARK: dict[str, str] = {
    "int32": "int",
    "int64": "bigint",
    "float32": "float",
    "float64": "double",
    "bool": "boolean",
    "list<string>": "array<string>",
    "list<int32>": "array<int>",
    "list<int64>": "array<bigint>",
    "list<float32>": "array<float>",
}


@dataclass(frozen=True)
class Field:
    """One column. `type` is a key of the table above; `unit` is None for a column without a unit."""

    name: str
    type: str
    nullable: bool
    unit: str | None
    meaning: str

    @property
    def spark_type(self) -> str:
        """The Spark DDL type."""
        return _SPARK.get(self.type, self.type)

    @property
    def numpy_type(self) -> np.dtype[Any]:
        """The numpy type of the values, or of the elements of a list column."""
        return np.dtype(self.type.removeprefix("list<").removesuffix(">"))


@dataclass(frozen=True)
class Contract:
    """A table's columns in order, its key (no two rows share it) and its partition columns."""

    table: str
    description: str
    key: tuple[str, ...]
    partition_by: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def columns(self) -> list[str]:
        return [field.name for field in self.fields]

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)

    def arrow_schema(self, *columns: str) -> pa.Schema:
        """Return the Arrow schema of `columns`, or of all."""
        fields = [self.field(name) for name in columns] or self.fields
        return pa.schema([pa.field(f.name, _ARROW[f.type], f.nullable) for f in fields])

    def spark_ddl(self, *columns: str) -> str:
        """Return the Spark DDL of `columns`, or of all, as `mapInArrow` takes it."""
        fields = [self.field(name) for name in columns] or self.fields
        return ", ".join(f"`{f.name}` {f.spark_type}" for f in fields)

    def spark_schema(self) -> StructType:
        """Return the Spark schema of all columns. Needs a running session, which parses the DDL."""
        from pyspark.sql.types import StructType

        return cast(StructType, StructType.fromDDL(self.spark_ddl()))


def names() -> list[str]:
    """Return the tables that have a contract, sorted."""
    return sorted(_names(_folder()))


@cache
def load(table: str) -> Contract:
    """Return the contract of `table`. `ContractViolation` when its file is missing or invalid."""
    path = _folder() / f"{table}.json"
    if not path.is_file():
        raise ContractViolation(f"table {table!r} has no contract at {path}. Known tables: {', '.join(names())}")
    raw = json.loads(path.read_text(encoding="utf-8"))
    fields = tuple(Field(**field) for field in raw["fields"])
    unknown = [f"{field.name}: {field.type}" for field in fields if field.type not in _ARROW]
    if unknown:
        raise ContractViolation(f"{path}: unknown types ({', '.join(unknown)}). Known types: {', '.join(_ARROW)}")
    contract = Contract(raw["table"], raw["description"], tuple(raw["key"]), tuple(raw["partition_by"]), fields)
    missing = [c for c in (*contract.key, *contract.partition_by) if c not in contract.columns]
    if missing:
        raise ContractViolation(f"{path}: key or partition_by names columns that are not fields: {', '.join(missing)}")
    return contract


def _names(folder: Traversable) -> list[str]:
    return (
        [file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")]
        if folder.is_dir()
        else []
    )


def _folder() -> Traversable:
    for folder in _FOLDERS:
        if _names(folder):
            return folder
    folders = " or ".join(map(str, _FOLDERS))
    raise ContractViolation(f"no contracts in {folders}: the installation is incomplete. Install recsys_spark again")
