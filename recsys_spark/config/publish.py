"""The section `publish`: the published table."""

from __future__ import annotations

from recsys_spark.config.section import Count, Section


class Publish(Section):
    """The published table: one Delta commit a night."""

    files: Count = 4
    """Number of Parquet files of a night. Raise it if one file exceeds 1 GiB."""
    keep_nights: Count = 30
    """Number of nights in the published table. Older ones are removed with each commit."""
    vacuum_hours: Count = 168
    """Hours after which files of removed nights are deleted. Set it longer than the longest query."""
