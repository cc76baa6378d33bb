"""spark-submit entry of the whole night. Finished stages are skipped, so a killed night resumes."""

import sys

from recsys_spark.pipeline.job import main
from recsys_spark.stages.baselines import stage as baselines
from recsys_spark.stages.clean import stage as clean
from recsys_spark.stages.evaluate import stage as evaluate
from recsys_spark.stages.features import stage as features
from recsys_spark.stages.publish import stage as publish
from recsys_spark.stages.score import stage as score
from recsys_spark.stages.split import stage as split
from recsys_spark.stages.train import stage as train

if __name__ == "__main__":
    sys.exit(main([clean, split, baselines, features, train, score, evaluate, publish]))
