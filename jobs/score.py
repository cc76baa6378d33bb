"""spark-submit entry of the score stage."""

import sys

from recsys_spark.pipeline.job import main
from recsys_spark.stages.score import stage

if __name__ == "__main__":
    sys.exit(main([stage]))
