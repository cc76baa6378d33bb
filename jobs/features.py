"""spark-submit entry of the features stage."""

import sys

from recsys_spark.features import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
