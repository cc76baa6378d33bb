"""spark-submit entry of the publish stage."""

import sys

from recsys_spark.job import main
from recsys_spark.publish import stage

if __name__ == "__main__":
    sys.exit(main([stage]))
