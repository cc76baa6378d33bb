"""Banned items and their causes."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import InputMissing, InputUnreadable
from recsys_spark.models.histories import Histories
from recsys_spark.rules.banned_items import banned_items, exhausted, read_blocked


def items(*rows):
    idx, names, withdrawn = zip(*rows)
    return pa.table({"item_idx": pa.array(idx, pa.int32()), "item_id": list(names), "withdrawn": list(withdrawn)})


TABLE = items((1, "a", False), (2, "b", True), (4, "d", False), (5, "e", False), (9, "new", False))


def test_blocked_withdrawn_unlisted_and_padding_items_are_banned(caplog):
    result = banned_items(TABLE, 7, ["e", "b", "never seen"])
    np.testing.assert_array_equal(np.flatnonzero(result.banned), [0, 2, 3, 5, 6])
    assert result.counts == {"withdrawn": 1, "blocked": 2, "blocked_unknown": 1, "unlisted": 2}
    assert "score.blocked_items: 1 of 3 ids are not in the items table" in caplog.text


def test_users_with_every_allowed_item_in_their_history_are_exhausted():
    banned = np.isin(np.arange(6), [0, 2, 5])  # 1, 3 and 4 are allowed
    histories = Histories.of([[], [1, 3, 4], [4, 2, 3, 1, 5], [1, 2, 3, 5], [2, 5]])
    assert exhausted(histories, banned).tolist() == [False, True, True, False, False]


def test_nothing_blocked():
    result = banned_items(TABLE, 7, [])
    np.testing.assert_array_equal(np.flatnonzero(result.banned), [0, 2, 3, 6])
    assert result.counts["blocked"] == result.counts["blocked_unknown"] == 0


def test_the_file_of_blocked_items(tmp_path):
    assert read_blocked(None) == []
    path = tmp_path / "blocked.txt"
    path.write_text(" a \n\nThe Item, with a comma\r\n", encoding="utf-8")
    assert read_blocked(str(path)) == ["a", "The Item, with a comma"]


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(InputMissing, match=r"score\.blocked_items: .*/gone\.txt does not exist\. Correct the path"):
        read_blocked(str(tmp_path / "gone.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputUnreadable, match=r"score\.blocked_items: .*binary cannot be read as UTF-8"):
        read_blocked(str(tmp_path / "binary"))
