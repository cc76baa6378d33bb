"""spark-submit entry of the train stage."""

import sys

from recsys_spark.train import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
