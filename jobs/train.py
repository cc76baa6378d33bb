"""spark-submit entry of the train stage."""

import sys

from recsys_spark.pipeline.job import main
from recsys_spark.stages.train import stage

if __name__ == "__main__":
    sys.exit(main([stage]))
