"""The Spark session under spark-submit: options of its command line are kept."""

import subprocess

import pytest

from night import SPARK_HOME, environment
from recsys_spark.spark.session import partitions_for

JOB = """
from recsys_spark.spark.session import REQUIRED, make_session
options = {"spark.sql.files.maxRecordsPerFile": "5"}
s = make_session(app_name="mine", master="local[2]", shuffle_partitions=9, options=options)
names = ["spark.app.name", "spark.master", "spark.sql.shuffle.partitions", *options, *REQUIRED]
print("settings:", *[s.conf.get(name) for name in names])
"""


@pytest.mark.spark
def test_the_command_line_wins_over_the_configuration_but_not_over_what_is_required(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    settings = {"spark.sql.shuffle.partitions": "3", "spark.sql.session.timeZone": "Asia/Tokyo"}
    options = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    command = [SPARK_HOME / "bin/spark-submit", "--master", "local[1]", *options, tmp_path / "job.py"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    (values,) = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("settings: ")]
    assert values == ["mine", "local[1]", "3", "5", "UTC", "TIMESTAMP_MICROS", "true", "true", "true", "false"]


def test_partitions_grow_with_the_log_and_with_the_cores():
    assert partitions_for(0, 2) == partitions_for(64 * 2**20, 2) == 4
    assert partitions_for(64 * 2**20 + 1, 2) == 5
    assert partitions_for(2**40, 8) == 65_536
    assert partitions_for(2**20, 8) == 16
