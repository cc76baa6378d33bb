import numpy as np

from recsys_spark.hashing import hash64, mixed


def test_the_numbers_of_the_published_generator():
    # the first three outputs of SplitMix64 seeded with 0, as java.util.SplittableRandom(0) gives them
    assert mixed(np.arange(3)).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_bits_are_like_thrown_coins():
    numbers = mixed(np.arange(1 << 16))
    assert len(np.unique(numbers)) == 1 << 16
    bits = np.unpackbits(numbers.view(np.uint8)).reshape(-1, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / 256  # five deviations of 2^16 throws


def test_hash64_equals_xxhash64_of_spark(spark):
    from pyspark.sql import functions as F

    numbers = np.array([0, 1, 2, 41, -7, 2**31, 2**62, -(2**63)], np.int64)
    rows = spark.createDataFrame([(int(n),) for n in numbers], "n bigint").select(F.xxhash64("n")).collect()
    assert hash64(numbers).tolist() == [row[0] for row in rows]
