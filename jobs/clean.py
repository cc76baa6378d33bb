"""spark-submit entry of the clean stage."""

import sys

from recsys_spark.clean import stage
from recsys_spark.job import main

if __name__ == "__main__":
    sys.exit(main([stage]))
