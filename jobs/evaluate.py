"""spark-submit entry of the evaluate stage."""

import sys

from recsys_spark.evaluate import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
