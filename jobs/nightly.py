"""spark-submit entry of the whole night: backtest, then release. Finished stages are skipped, so a killed night resumes."""

import sys

from recsys_spark.pipeline.job import Later, main

STAGES = ("clean", "split", "baselines", "features", "train", "score", "evaluate", "publish")

if __name__ == "__main__":
    sys.exit(main([Later(f"recsys_spark.stages.{name}.stage") for name in STAGES]))
