"""spark-submit entry of the whole night: backtest, then release. Finished stages are skipped, so a killed night resumes."""

import sys

from recsys_spark.baselines import stage as baselines
from recsys_spark.clean import stage as clean
from recsys_spark.evaluate import stage as evaluate
from recsys_spark.features import stage as features
from recsys_spark.job import main
from recsys_spark.publish import stage as publish
from recsys_spark.score import stage as score
from recsys_spark.split import stage as split
from recsys_spark.train import stage as train

if __name__ == "__main__":
    sys.exit(main([clean, split, baselines, features, train, score, evaluate, publish]))
