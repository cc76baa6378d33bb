"""spark-submit entry of the baselines stage."""

import sys

from recsys_spark.baselines import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
