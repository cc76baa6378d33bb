"""The section `session`: the Spark session."""

from __future__ import annotations

from recsys_spark.config.section import Count, Section


class Session(Section):
    """The Spark session. Settings on the command line of spark-submit win over these."""

    app_name: str = "recsys_spark"
    """Name of the application in the Spark UI."""
    master: str | None = None
    """Spark master if spark-submit does not set one. null: local[*]."""
    shuffle_partitions: Count | None = None
    """Number of partitions after a shuffle. null: chosen by the size of the log. Raise it if tasks run out of
    memory."""
    options: dict[str, str] = {}
    """Further Spark settings, as a map from key to value."""
