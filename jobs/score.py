"""spark-submit entry of the score stage."""

import sys

from recsys_spark.score import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
