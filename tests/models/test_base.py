"""The header: what it must hold, and what is said when it does not."""

import numpy as np
import pytest

from recsys_spark.errors import InputUnreadable
from recsys_spark.models import base
from recsys_spark.models.popularity import PopularityModel

KINDS = {"popularity": PopularityModel}


def model(top: float = 1.0) -> PopularityModel:
    return PopularityModel(3, {"segments": []}, {"scores": np.array([[0, top, 0.5]], np.float32)})


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", "Expecting property name"),
        (b"[1, 2]", "is not an item model"),
        (b"null", "is not an item model"),
        (b"\xff\xfe", "utf-8"),
        (b'{"kind": "popularity", "n_items": 3}', "header.json lacks arrays, parameters"),
    ],
)
def test_a_bad_header_is_unreadable(tmp_path, content, words):
    base.save(tmp_path / "m", model())
    (tmp_path / "m" / base.HEADER).write_bytes(content)
    with pytest.raises(InputUnreadable, match=words) as caught:
        base.load(tmp_path / "m", KINDS)
    assert str(tmp_path / "m") in str(caught.value)


def test_a_folder_that_is_not_there_is_unreadable(tmp_path):
    with pytest.raises(InputUnreadable, match="No such file"):
        base.load(tmp_path / "none", KINDS)


def test_an_unknown_kind_lists_the_known_ones(tmp_path):
    base.save(tmp_path / "m", model())
    with pytest.raises(InputUnreadable, match=r"kind 'popularity' is not one of als, item_knn"):
        base.load(tmp_path / "m", {"item_knn": PopularityModel, "als": PopularityModel})


def test_saving_replaces_what_was_there_and_leaves_no_rest(tmp_path):
    base.save(tmp_path / "m", model(top=1))
    (tmp_path / "m" / "stray.npy").write_bytes(b"old")
    base.save(tmp_path / "m", model(top=2))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["header.json", "scores.npy"]
    assert base.load(tmp_path / "m", KINDS).arrays["scores"][0, 1] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_the_header_changes_with_the_arrays(tmp_path):
    headers = []
    for top in (1.0, 2.0):
        base.save(tmp_path / "m", model(top))
        headers.append(base.read_header(tmp_path / "m"))
    assert headers[0]["arrays"] != headers[1]["arrays"]
    assert {**headers[0], "arrays": 0} == {**headers[1], "arrays": 0}


def test_objects_are_refused(tmp_path):
    bad = PopularityModel(3, {"segments": []}, {"scores": np.array([object()])})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        base.save(tmp_path / "m", bad)
    base.save(tmp_path / "m", model())
    np.save(tmp_path / "m" / "scores.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputUnreadable, match="Python objects in dtype"):
        base.load(tmp_path / "m", KINDS)
