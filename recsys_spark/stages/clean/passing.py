"""Counts that are taken while a frame is computed for another purpose, so that they cost no job of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame, Observation


def counting(df: DataFrame, counts: Mapping[str, Column]) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """`df`, and what to call for the values of the aggregates `counts` once the one action on it is done."""
    if not counts:
        return df, dict
    seen = Observation()
    # numbered, since an attribute of a user may be called anything
    watched = df.observe(seen, *[count.alias(f"c{i}") for i, count in enumerate(counts.values())])
    # a frame that is empty as planned is not computed, and nothing is observed
    return watched, lambda: {name: seen.get.get(f"c{i}", 0) for i, name in enumerate(counts)}
