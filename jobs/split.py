"""spark-submit entry of the split stage."""

import sys

from recsys_spark.split import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
