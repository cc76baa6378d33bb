"""spark-submit entry of the split stage."""

import sys

from recsys_spark.job import main
from recsys_spark.split import stage

if __name__ == "__main__":
    sys.exit(main([stage]))
