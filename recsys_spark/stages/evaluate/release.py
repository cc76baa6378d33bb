"""The release pass in Spark: what the gates need to know of tonight's table, and the rows that the report shows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.stages.evaluate import examples
from recsys_spark.stages.evaluate.gates import Tonight
from recsys_spark.storage import manifest, tables
from recsys_spark.storage.layout import Layout

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


def tonight(spark: SparkSession, layout: Layout, last: int | None) -> Tonight:
    """Size of tonight's table and who is served by it; `last` as `last_rows` gives it."""
    users = tables.read(spark, layout.table("clean", c.BACKTEST, "users"), "users").select(c.USER_ID)
    table = tables.read(spark, layout.table("score", c.RELEASE, "top_n"), "top_n")
    lists = table.groupBy(c.USER_ID).agg(F.count("*").alias("rows"))
    both = users.withColumn("known", F.lit(True)).join(lists, c.USER_ID, "full")
    unserved = F.count_if(F.col("known") & F.col("rows").isNull())
    rows, known, without = both.agg(F.coalesce(F.sum("rows"), F.lit(0)), F.count("known"), unserved).first()
    exhausted = manifest.require(layout, "score", c.RELEASE).counts.get("users_exhausted", 0)
    return Tonight(rows=rows, users=known, unserved=without, last_rows=last, exhausted=int(exhausted))


def last_rows(layout: Layout, run_date: str) -> int | None:
    """Rows of the night that was published last, other than `run_date`; None when there is none."""
    runs = [Layout(layout.root, folder.name) for folder in layout.run.parent.iterdir() if folder.is_dir()]
    published = [m for run in runs if (m := manifest.read(run.stage("publish", c.RELEASE)))]
    others = [m for m in published if m.settings.get("run_date", m.run_id) != run_date and "rows" in m.counts]
    newest = max(others, key=lambda m: (m.finished_at, m.run_id), default=None)
    return int(newest.counts["rows"]) if newest else None


def log_verdict(verdict: dict[str, Any]) -> None:
    """One line a gate, and the verdict."""
    for gate in verdict["gates"]:
        level, word = (logging.INFO, "passed") if gate["passed"] else (logging.WARNING, "FAILED")
        log.log(level, "gate %s %s: %s", gate["gate"], word, gate["message"])
    log.info("verdict: %s", "all gates passed" if verdict["passed"] else "not to be published")


def example_users(spark: SparkSession, layout: Layout, n: int) -> list[dict[str, Any]]:
    """At most `n` users as `examples.describe` gives them."""
    folder = layout.table("features", c.RELEASE, "histories")
    histories = tables.read(spark, folder, "histories").where(F.col(c.AS_OF) == c.RELEASE)
    return examples.describe(
        examples.choose(histories, n),
        histories=folder,
        users=layout.table("clean", c.BACKTEST, "users"),
        items=layout.table("clean", c.BACKTEST, "items"),
        top_n=layout.table("score", c.RELEASE, "top_n"),
    )


def bad_rows(spark: SparkSession, layout: Layout) -> list[dict[str, Any]]:
    """One quarantined row of each reason."""
    return examples.bad_rows(tables.read(spark, layout.table("clean", c.BACKTEST, "quarantine"), "quarantine"))
