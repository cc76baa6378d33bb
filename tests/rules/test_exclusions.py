"""Items that nobody is shown, and why."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import InputMissing, InputUnreadable
from recsys_spark.models.histories import Histories
from recsys_spark.rules.exclusions import exclusions, exhausted, read_blocked


def items(*rows):
    idx, names, withdrawn = zip(*rows)
    return pa.table({"item_idx": pa.array(idx, pa.int32()), "item_id": list(names), "withdrawn": list(withdrawn)})


TABLE = items((1, "a", False), (2, "b", True), (4, "d", False), (5, "e", False), (9, "new", False))


def test_banned_is_blocked_withdrawn_unlisted_and_padding(caplog):
    found = exclusions(TABLE, 7, ["e", "b", "never seen"])
    np.testing.assert_array_equal(np.flatnonzero(found.banned), [0, 2, 3, 5, 6])
    assert found.counts == {"withdrawn": 1, "blocked": 2, "blocked_unknown": 1, "unlisted": 2}
    assert "1 of 3 ids are no items of tonight" in caplog.text


def test_exhausted_is_who_has_seen_all_that_may_be_shown():
    banned = np.isin(np.arange(6), [0, 2, 5])  # 1, 3 and 4 may be shown
    histories = Histories.of([[], [1, 3, 4], [4, 2, 3, 1, 5], [1, 2, 3, 5], [2, 5]])
    assert exhausted(histories, banned).tolist() == [False, True, True, False, False]


def test_nothing_blocked():
    found = exclusions(TABLE, 7, [])
    np.testing.assert_array_equal(np.flatnonzero(found.banned), [0, 2, 3, 6])
    assert found.counts["blocked"] == found.counts["blocked_unknown"] == 0


def test_the_file_of_blocked_items(tmp_path):
    assert read_blocked(None) == []
    path = tmp_path / "blocked.txt"
    path.write_text(" a \n\nThe Item, with a comma\r\n", encoding="utf-8")
    assert read_blocked(str(path)) == ["a", "The Item, with a comma"]


def test_a_missing_or_unreadable_file_is_told(tmp_path):
    with pytest.raises(InputMissing, match=r"score\.blocked_items: .*/gone\.txt does not exist"):
        read_blocked(str(tmp_path / "gone.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputUnreadable, match=r"score\.blocked_items: .*binary cannot be read as UTF-8"):
        read_blocked(str(tmp_path / "binary"))
