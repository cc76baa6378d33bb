"""The log of the sequential protocol: the source's order breaks the ties of a second, user by user."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import sequential


def test_rows_of_one_second_keep_the_order_of_the_source(tmp_path):
    source = tmp_path / "events.csv"
    source.write_text('user_id,item_id,rating,timestamp\na,z,1,5\nb,y,2,5\na,"x, the",3,4\na,w,1,5\n')
    sequential.put_events(source, tmp_path / "out" / "events.csv")
    assert (tmp_path / "out" / "events.csv").read_text().splitlines() == [
        "user_id,item_id,timestamp", "a,z,5000", "b,y,5000", 'a,"x, the",4000', "a,w,5001",
    ]  # fmt: skip
