"""One training worker, as launch.py starts it: python -m recsys_spark.stages.train --job job.json --of PID"""

from recsys_spark.stages.train.workers import main

if __name__ == "__main__":
    main()
