"""spark-submit entry of the score stage."""

import sys

from recsys_spark.job import main
from recsys_spark.score import stage

if __name__ == "__main__":
    sys.exit(main([stage]))
