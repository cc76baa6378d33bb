"""Content: TF-IDF cosines against scikit-learn's, the terms, and items without interactions."""

import re
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from factories import put_table
from models.model_contract import ItemModelContract
from recsys_spark.models.histories import Histories
from recsys_spark.models.item_knn import ContentModel
from recsys_spark.stages.baselines import content
from recsys_spark.stages.baselines.neighbour_table import make_table
from recsys_spark.storage import tables
from recsys_spark.topk import Exclusions, top_k
from stages.baselines.local import Tasks, dense, put_pairs

SHARE = 0.4


def row(item: int, title=None, categories=(), text=None) -> dict:
    return {
        "item_idx": item, "item_id": f"i{item}", "title": title, "categories": list(categories), "text": text,
        "withdrawn": False,
    }  # fmt: skip


def fit(spark, folder, rows, *, n_items=None, neighbours=1000, max_share=SHARE):
    put_table(folder / "items", "items", rows)
    items = tables.read(spark, folder / "items", "items")
    sizes = {"n_items": n_items or 1 + max(r["item_idx"] for r in rows), "tasks": 2}
    return content.fit_items(items, folder / "fit", neighbours=neighbours, max_share=max_share, **sizes)


def keep_largest(table: np.ndarray, neighbours: int) -> np.ndarray:
    """Return the `neighbours` largest of each row, of equals the lower items."""
    largest = np.zeros_like(table)
    for j, values in enumerate(table):
        kept = sorted(range(len(values)), key=lambda i, v=values: (-np.float32(v[i]), i))[:neighbours]
        largest[j, kept] = values[kept]
    return largest


def random_rows(n: int = 40) -> list[dict]:
    """Return items 1 … n with shared words in different case. Every fifth has no content, every third no title."""
    rng = np.random.default_rng(1)
    words = [f"word{w}" for w in range(25)]
    rows = []
    for item in range(1, n + 1):
        title = " ".join(rng.choice(words, 3)).title() if item % 3 else None
        text = "; ".join(rng.choice(words, 12, p=np.arange(1, 26) / np.arange(1, 26).sum()))
        groups = rng.choice(["Home & Garden", "Toys", "word3"], item % 3, replace=False).tolist()
        rows.append(row(item) if item % 5 == 0 else row(item, title, groups, text))
    return rows


def terms_of(r: dict) -> list[str]:
    words = re.findall(r"\w+", f"{r['title'] or ''} {r['text'] or ''}".lower())
    return words + [f"<{name.lower()}>" for name in r["categories"]]


@pytest.mark.parametrize("neighbours", [3, 1000])
def test_equals_scikit_learn(spark, tmp_path, neighbours):
    rows = random_rows()
    model, counts = fit(spark, tmp_path, rows, neighbours=neighbours)
    with_terms = [r for r in rows if terms_of(r)]
    tfidf = TfidfVectorizer(analyzer=terms_of, sublinear_tf=True, min_df=2, max_df=SHARE)
    vectors = tfidf.fit_transform(with_terms).toarray()
    expected = np.zeros((41, 41))
    at = [r["item_idx"] for r in with_terms]
    expected[np.ix_(at, at)] = vectors @ vectors.T
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(model), keep_largest(expected, neighbours), rtol=1e-5, atol=1e-7)
    every = {term for r in with_terms for term in terms_of(r)}
    rare = [t for t in every if sum(t in terms_of(r) for r in with_terms) < 2]
    assert counts == {
        "content_items": len(with_terms),
        "content_terms": vectors.shape[1],
        "content_terms_rare": len(rare),
        "content_terms_common": len(every) - len(rare) - vectors.shape[1],
        "content_neighbours": np.count_nonzero(dense(model)),
    }
    assert counts["content_terms_common"] > 0


def test_terms_are_words_in_lower_case_and_whole_categories(spark, tmp_path):
    rows = [row(1, "Über-Ich, the 2nd!", ["Sci-Fi", "sci-fi", "the"], "ÜBER हिन्दी"), row(2)]
    put_table(tmp_path / "items", "items", rows)
    counted = content.count_terms(tables.read(spark, tmp_path / "items", "items")).collect()
    assert {(r["item_idx"], r["term"]): r["times"] for r in counted} == {
        (1, "über"): 2, (1, "ich"): 1, (1, "the"): 1, (1, "2nd"): 1, (1, "हिन्दी"): 1,
        (1, "category=sci-fi"): 1, (1, "category=the"): 1,
    }  # fmt: skip


def test_an_item_without_interactions_is_similar_by_its_words(spark, tmp_path):
    titles = ["red apple", "green apple", "red wine", "brown bread", "rye bread", "red apple juice", "brown shoe"]
    rows = [row(item, title) for item, title in enumerate(titles, start=1)]
    model, _ = fit(spark, tmp_path, rows, n_items=11, max_share=1.0)
    histories = Histories.of([[1], [5], [9]])
    exclusions = Exclusions(np.isin(np.arange(11), [0, 8, 9, 10]), histories)
    items, scores = top_k(model, model.encode(histories), exclusions, 7, 8)
    assert items[0, :3].tolist() == [6, 2, 3]  # both words, then one of them, the lower item first
    assert items[1, 0] == 4
    assert not scores[2].any()  # item 9 is not in the items table


def test_items_without_content_have_no_neighbours(spark, tmp_path):
    model, counts = fit(spark, tmp_path, [row(1), row(2)])
    assert model.arrays["indptr"].tolist() == [0] * 4
    assert set(counts.values()) == {0}


def random_weights(n_terms: int = 30, n_items: int = 50) -> sp.csr_matrix:
    rng = np.random.default_rng(5)
    weights = rng.uniform(1, 3, (n_terms, n_items)) * (rng.random((n_terms, n_items)) < 0.2)
    weights[:, [0, 7]] = 0
    weights[3] = 0
    return sp.csr_matrix(weights.astype(np.float32))


def compare(folder, *, parts: int, neighbours: int = 7) -> ContentModel:
    pairs = put_pairs(folder / "pairs", random_weights(), parts)
    work = partial(content.compare_items, pairs, 60, neighbours)
    return ContentModel(50, {}, make_table(Tasks(), pairs, folder / "table", work))


def test_similarities_equal_a_dense_product(tmp_path):
    weights = random_weights().toarray().astype(np.float64)
    idf = 1 + np.log((1 + 60) / (1 + (weights > 0).sum(axis=1)))
    vectors = weights.T * idf
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    expected = vectors @ vectors.T
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(compare(tmp_path, parts=3)), keep_largest(expected, 7), rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 17])
@pytest.mark.parametrize("output", [1, 40, 1 << 21])
def test_any_number_of_tasks_and_any_chunks_give_the_same_table(tmp_path, monkeypatch, parts, output):
    expected = compare(tmp_path / "a", parts=3).arrays
    monkeypatch.setattr("recsys_spark.stages.baselines.neighbour_table.OUTPUT", output)
    arrays = compare(tmp_path / "b", parts=parts).arrays
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


class TestContentModel(ItemModelContract):
    @pytest.fixture
    def model(self, tmp_path):
        return compare(tmp_path, parts=2)
