"""The section `publish`: the published table."""

from __future__ import annotations

from pydantic import Field

from recsys_spark.config.section import Count, Section


class Publish(Section):
    """The published table: one Delta commit a night."""

    files: Count = Field(
        default=4, description="Number of Parquet files of a night. Raise it if one file exceeds 1 GiB."
    )
    keep_nights: Count = Field(
        default=30, description="Number of nights in the published table. Older ones are removed with each commit."
    )
    vacuum_hours: Count = Field(
        default=168,
        description="Hours after which files of removed nights are deleted. Set it longer than the longest query.",
    )
