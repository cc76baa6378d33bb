"""The page, rendered without Spark from complete runs, and from runs that lack some of their data."""

import html
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from factories import finish_stage, make_context
from recsys_spark import registry
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.report import formatting, plots
from recsys_spark.report import render as report
from recsys_spark.report.accuracy import difference
from recsys_spark.report.data import months_between
from recsys_spark.report.fusion import _selection
from recsys_spark.report.run_facts import RunFacts
from recsys_spark.storage.manifest import write_json

EVIL = "<script>alert(1)</script>"
ANCHORS = [
    "clean",
    "split",
    "baselines",
    "features",
    "train",
    "score",
    "evaluate",
    "cold_start",
    "publish",
    "users",
    "timings",
]
MODELS = ["popularity", "als", "network", "fused"]
VERDICT = {
    "passed": True,
    "gates": [{"gate": "min_ndcg", "value": 0.3, "limit": 0.2, "passed": True, "message": "0.3000 ≥ 0.2000"}],
}
USER = {
    "user_id": f"u {EVIL}",
    "kind": "shortest",
    "segment": EVIL,
    "attributes": {"age": EVIL},
    "history_length": 1,
    "history": [{"title": EVIL, "categories": [EVIL], "date": "2026-01-02"}],
    "recommendations": [{"title": EVIL, "categories": [], "source": EVIL, "because": EVIL}],
}
BAD = [{"reason": "bot_user", "detail": EVIL, "source_file": f"/x/{EVIL}.csv", "row": EVIL}]


def estimate(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def metrics(models=MODELS, content=True):
    beyond = {
        "coverage": 0.5,
        "novelty": 3.2,
        "gini": 0.7,
        "diversity": 0.6 if content else None,
        "average_popularity": 12.0,
    }
    lead = {**estimate(0.02), "share_above": 0.99}
    return {
        "users": 40,
        "bootstrap": {"users": 40, "samples": 100, "confidence": 0.95},
        "models": models,
        "cutoffs": [5, 10],
        "gate_k": 10,
        "best_baseline": "als",
        "best_single": "als",
        "accuracy": {
            m: {k: {n: estimate(0.1 + i / 50) for n in METRICS} for k in ("5", "10")} for i, m in enumerate(models)
        },
        "differences": [{"model": "fused", "against": "als", "k": 10, "metrics": dict.fromkeys(METRICS, lead)}],
        "beyond_accuracy": dict.fromkeys(models, beyond),
        "concentration": {name: [[0.25, 0.5], [1.0, 1.0]] for name in ("log", *models)},
        "groups": [
            group(by, name)
            for by, names in (
                ("history", ("1–5", "6–9")),
                ("segment", (f"$x_{EVIL}$", "$\\bad$")),
                ("popularity", ("niche (1–20%)", "mixed (20–40%)", "mainstream (40–99%)")),
            )
            for name in names
        ],
        "gaps": [
            gap("history", "6–9", "1–5", 0.0312, 0.01),
            gap("segment", f"$x_{EVIL}$", "$\\bad$", 0.02, -0.01),
        ],
    }


def group(by, name, profile=100.0, listed=140.0):
    lift = listed / profile - 1
    return {
        "by": by,
        "group": name,
        "users": 20,
        "metrics": {"ndcg": estimate(0.1)},
        "best_single": {"ndcg": estimate(0.0875)},
        "popularity": {
            "profile": profile,
            "list": listed,
            "lift": {"mean": lift, "low": lift - 0.1, "high": lift + 0.1},
        },
    }


def gap(by, best, worst, mean, low):
    return {
        "by": by,
        "best": best,
        "worst": worst,
        "groups": 2,
        "ndcg": {"mean": mean, "low": low, "high": 2 * mean - low},
    }


def make_run(root, *, network=True, content=True, times=True, split=None, segment_by=()):
    context = make_context(root)
    layout = context.layout
    counts = {
        "rows_in": 1200,
        "interactions": 1000,
        "quarantined": 200,
        "quarantined_by_reason": {"bot_user": 200},
    }
    counts |= {
        "users": 40,
        "items": 20,
        "new_users": 1,
        "new_items": 2,
        "missing": {"items.title": 3, "items.text": 0},
    }
    dates = {
        "events_first": "2025-11-02",
        "events_last": "2026-01-30",
        "events_by_month": [["2025-11", 400], ["2026-01", 600]],
    }
    cleaned = {"clean": {"segment_by": list(segment_by)}}
    finish_stage(context, "clean", None, {}, cleaned, **counts, **(dates if times else dict.fromkeys(dates)))
    finish_stage(context, "split", "backtest", {}, split, train=900, valid=40, test=40, users_with_test=40)
    finish_stage(
        context,
        "baselines",
        "backtest",
        {},
        seconds={"popularity": 1.0, "als": 2.0},
        als_objective=[3.0, 2.0],
    )
    finish_stage(context, "features", "backtest", {}, examples=800, users_with_history=40, features=5 if content else 0)
    finish_stage(context, "score", "backtest", {}, users=40, seconds={"als": 7.25})
    finish_stage(context, "score", "release", {}, rows=800, users=40, users_without_history=2)
    epochs = [{"epoch": e, "loss": 5 - e, "ndcg": 0.1 * e, "seconds": 2.0, "examples_per_s": 400.0} for e in (1, 2, 3)]
    if network:
        training = {"epochs": epochs, "best_epoch": 2, "workers": 2, "device": "cpu"}
        write_json(layout.table("train", "backtest", "training.json"), training)
    models = MODELS if network else ["popularity", "als", "fused"]
    weights = {m: 1 / (len(models) - 1) for m in models[:-1]}
    fusion = {"method": "zscore", "weights": weights, "valid_ndcg": dict.fromkeys(models, 0.1), "k": 10}
    gap = {"mean": 0.0125, "low": -0.002, "high": 0.03}
    fusion |= {
        "selected": "blend", "confidence": 0.95,
        "leave_one_out": dict.fromkeys(models[:-1], gap),
        "dropped": [{"model": "als", "mean": 0.0004, "low": -0.001, "high": 0.0015}],
        "comparison": {"blend": 0.3, "ranker": 0.3125, "difference": gap},
    }  # fmt: skip
    write_json(layout.table("score", "backtest", "fusion.json"), fusion)
    write_json(layout.table("evaluate", "backtest", "metrics.json"), metrics(models, content))
    return RunFacts(layout, registry.labels())


def render(facts, verdict=VERDICT, examples=(USER,), bad_rows=BAD):
    return report.render(facts, verdict=verdict, examples=list(examples), bad_rows=bad_rows, run_date=date(2026, 3, 1))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return render(make_run(tmp_path_factory.mktemp("run")))


class Fetches(HTMLParser):
    """Collects the addresses that a browser would load, and checks that tags are closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.found += [
            v for name, v in attrs if name in ("src", "href", "xlink:href", "data", "srcset") and not v.startswith("#")
        ]
        self.found += [tag] * (tag in ("script", "link", "iframe", "object", "embed"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_has_every_section_and_a_link_to_it(page):
    assert re.findall(r'<section id="(\w+)">', page) == ANCHORS
    assert re.findall(r'<a class="word" href="#(\w+)">', page) == ANCHORS


def test_the_page_loads_nothing(page):
    parser = Fetches()
    parser.feed(page)
    assert parser.found == []
    assert parser.open == []
    assert "@import" not in page and "url(http" not in page


def test_all_data_is_escaped(page):
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 9
    assert "because of &lt;script&gt;" in page


def test_figures_have_a_title_and_a_caption(page):
    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 17
    assert all("<h3>" in f and "<svg" in f and re.search(r"<figcaption>\S.*\.</figcaption>", f) for f in figures)


def tradeoff_entry(diversity=0.0, cap=None, **metrics):
    setting = {"diversity": diversity, "max_per_category": cap, "users": 40}
    return {**setting, "ndcg": 0.2, "list_diversity": 0.5, "coverage": 0.3, **metrics}


@pytest.mark.parametrize(
    ("score", "diversity", "cap"),
    [({}, False, False), ({"diversity": 0.3}, True, False), ({"max_per_category": 3}, False, True),
     ({"diversity": 0.3, "max_per_category": 3}, True, True)],
)  # fmt: skip
def test_the_diversity_tradeoff_is_shown_for_the_settings_that_are_on(tmp_path, score, diversity, cap):
    facts = make_run(tmp_path)
    finish_stage(make_context(tmp_path), "score", "backtest", {}, {"score": score}, users=40)
    d, c = score.get("diversity", 0.0), score.get("max_per_category")
    steps = [(0.0, c), (d, c)] * diversity + [(d, None), (d, c)] * cap
    facts.metrics["diversity_tradeoff"] = [tradeoff_entry(*step) for step in dict.fromkeys(steps)]
    page = plain(facts)
    for gain in ("diversity", "coverage"):
        assert (f"How does score.diversity trade accuracy for {gain}?" in page) == diversity
        assert (f"How does score.max_per_category trade accuracy for {gain}?" in page) == cap
    if cap:
        assert "One dot for each value of score.max_per_category, on 40 users. Further right, the items of a" in page


def test_each_tradeoff_varies_one_setting(tmp_path, monkeypatch):
    facts = make_run(tmp_path)
    score = {"diversity": 0.3, "max_per_category": 3}
    finish_stage(make_context(tmp_path), "score", "backtest", {}, {"score": score}, users=40)
    steps = [(0.0, 3), (0.3, None), (0.3, 5), (0.3, 3), (0.5, 3)]
    facts.metrics["diversity_tradeoff"] = [tradeoff_entry(*step) for step in steps]
    drawn = []
    monkeypatch.setattr(plots, "tradeoff", lambda points, labels, chosen, *_: drawn.append((labels, chosen)) or "")
    render(facts)
    assert drawn == [(["0", "0.3", "0.5"], 1)] * 2 + [(["none", "5", "3"], 2)] * 2


def test_without_categories_the_tradeoff_has_coverage_only(tmp_path):
    facts = make_run(tmp_path)
    finish_stage(make_context(tmp_path), "score", "backtest", {}, {"score": {"diversity": 0.3}}, users=40)
    facts.metrics["diversity_tradeoff"] = [tradeoff_entry(d, list_diversity=None) for d in (0.0, 0.3)]
    page = render(facts)
    assert "trade accuracy for diversity" not in page and "trade accuracy for coverage" in page


def plain(facts):
    """Return the page with its entities resolved."""
    return html.unescape(render(facts))


def test_groups_of_users_in_words_and_numbers(page):
    text = html.unescape(page)
    assert (
        "By length of history, users with 1–5 items are served worst and users with 6–9 items best "
        "(NDCG@10 0.1000 and 0.1000, a gap of 0.0312, interval +0.0100 to +0.0524)." in text
    )
    assert (
        "By segment, no group is served significantly worse. Lowest: users of segment $\\bad$; "
        "highest: users of segment $x_<script>" in text
    )
    assert "By popularity of the history, " not in text  # its groups are too small for a gap
    niche = re.search(r"<tr><td[^>]*>niche \(1–20%\)</td>(.*?)</tr>", page).group(1)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", niche)
    assert cells == ["20", "0.1000", "0.0900–0.1100", "0.0875", "100", "140", "+40.0%", "+30.0% to +50.0%"]


def test_the_group_whose_lists_favour_popular_items(tmp_path):
    facts = make_run(tmp_path)
    few, many = group("history", "1–5", listed=150.0), group("history", "6–9", listed=7.5)
    figures = "(150 users for a listed item and 100 for an item of the history, +50.0%, interval +40.0% to +60.0%)."
    facts.metrics["groups"] = [few, many]
    assert f"The lists favour popular items most for users with 1–5 items {figures}" in plain(facts)
    # a larger lift that is not significant does not hide one that is
    many["popularity"] |= {"list": 200.0, "lift": {"mean": 1.0, "low": -0.5, "high": 2.5}}
    assert f"The lists favour popular items most for users with 1–5 items {figures}" in plain(facts)
    facts.metrics["groups"] = [many, group("history", "1–5", listed=90.0)]
    text = "No group's lists favour popular items significantly. Largest lift: users with 6–9 items ("
    assert text in plain(facts)


def test_groups_without_a_lift(tmp_path):
    facts = make_run(tmp_path)
    nothing = {"mean": None, "low": None, "high": None}
    unknown = {"profile": None, "list": None, "lift": nothing}
    facts.metrics |= {
        "groups": [{**group("history", name), "popularity": unknown} for name in ("0", "1")],
        "gaps": [],
    }
    page = render(facts)
    assert "Do the lists favour popular items, by" not in page and "lists favour popular items most" not in page
    assert re.search(r'<td class="n">–</td><td class="n">–</td><td class="n">–</td><td class="n">–</td></tr>', page)
    # as an earlier version of the evaluate stage wrote them
    facts.metrics["groups"] = [
        {"by": "history", "group": name, "users": 9, "metrics": {"ndcg": estimate(0.1)}} for name in ("0", "1")
    ]
    facts.metrics.pop("gaps")
    assert "Metrics by length of history" in render(facts)


@pytest.mark.parametrize("groups", [[], [group("history", "1–5")]])
def test_without_two_groups_there_is_no_comparison(tmp_path, page, groups):
    question = "Are all users served equally well?"
    facts = make_run(tmp_path)
    facts.metrics["groups"] = groups
    without = render(facts)
    assert question in page and "Do the lists favour popular items, by" in page
    assert question not in without and "Do the lists favour popular items, by" not in without
    assert re.findall(r'<section id="(\w+)">', without) == ANCHORS


def test_without_segments_the_other_groups_are_shown(tmp_path):
    facts = make_run(tmp_path)
    facts.metrics["groups"] = [row for row in facts.metrics["groups"] if row["by"] != "segment"]
    page = render(facts)
    assert "Each dot is a group of 20 users" in page
    assert "by segment" not in page and "segments of the users" not in page
    assert "are the lists, by length of history?" in page and "are the lists, by popularity of the history?" in page


def of_all(found):
    return dict.fromkeys(METRICS, found)


COLD_START = {
    "users": {
        "users": 120,
        "lists": {name: of_all(estimate(m)) for name, m in (("fused", 0.3), ("popularity", 0.2))},
        "difference": of_all({**estimate(0.1), "share_above": 1.0}),
    },
    "items": {
        "users": 900,
        "items": 40,
        "catalogue": 1000,
        "models": {m: of_all(estimate(0.5)) for m in ("content", "fused")},
        "random": {"recall": 0.25, "ndcg": 0.125},
        "share_of_places": 0.003,
    },
}


def section_of(page, anchor):
    return re.search(rf'<section id="{anchor}">.*?</section>', page, flags=re.DOTALL).group()


def test_cold_start_in_words_figures_and_tables(tmp_path):
    facts = make_run(tmp_path)
    facts.metrics["cold_start"] = COLD_START
    section = section_of(render(facts), "cold_start")
    assert section.count("<svg") == 2 and section.count("<table") == 2
    assert "120 users were held out completely and served like users without history" in section
    assert "No segments are configured (clean.segment_by), so both lists are equal." in section
    assert "40 items were held out completely, with all their interactions. For 900 users" in section
    assert "A random order would reach a recall@10 of 25.0%" in section
    assert "they take 0.3% of the first 10 places; they are 4.0% of the catalogue" in section
    row = re.search(r"<tr><td[^>]*><span[^>]*></span>Random order</td>(.*?)</tr>", section).group(1)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["0.1250", "–", "0.2500", "–"]
    row = re.search(r"<tr><td[^>]*><span[^>]*></span>By segment</td>(.*?)</tr>", section).group(1)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["0.3000", "0.2900–0.3100", "0.3000", "0.3000"]


def test_the_split_names_users_and_items_that_are_held_out_completely(tmp_path):
    facts = make_run(tmp_path)
    assert "held out completely" not in section_of(render(facts), "split")
    counts = {"train": 9, "valid": 1, "test": 1, "users_with_cold_user": 12, "cold_item": 34}
    finish_stage(make_context(tmp_path), "split", "backtest", {}, **counts)
    text = "these are held out completely: 12 users and 34 pairs of other users with held-out items."
    assert text in section_of(render(facts), "split")


@pytest.mark.parametrize("able", ["content", "network"])
def test_a_blend_that_cannot_rank_new_items_is_pointed_out(tmp_path, able):
    """The blend has popularity, als and network."""
    facts = make_run(tmp_path)
    models = {m: of_all(estimate(0.5)) for m in (able, "fused")}
    facts.metrics["cold_start"] = {"items": {**COLD_START["items"], "models": models}}
    section = section_of(render(facts), "cold_start")
    assert ("None of these models has weight in the blend" in section) == (able == "content")


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (0.1, "This is better than the popular items of all users (NDCG@10 +0.1000, interval +0.0900 to +0.1100)."),
        (-0.1, "This is worse than the popular items of all users (NDCG@10 −0.1000"),
        (0.0, "The difference to the popular items of all users is not significant (NDCG@10 +0.0000"),
    ],
)  # fmt: skip
def test_whether_segments_help_new_users(tmp_path, mean, text):
    facts = make_run(tmp_path, segment_by=["age"])
    gap = of_all({**estimate(mean), "share_above": 0.5})
    facts.metrics["cold_start"] = {"users": {**COLD_START["users"], "difference": gap}}
    section = section_of(render(facts), "cold_start")
    assert text in section and "popular items of their segment (age)" in section and "Random order" not in section


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({}, "No users or items were held out completely"),
        ({"cold_user_share": 0.1}, "too few users to hold any out."),
        ({"cold_item_share": 0.1}, "no model of this run can rank items without interactions"),
    ],
)
def test_without_cold_start_metrics_a_note_says_why(tmp_path, shares, text):
    section = section_of(render(make_run(tmp_path, split=shares)), "cold_start")
    assert text in section and section.count('class="note"') == 1 and "<svg" not in section


def test_numbers_are_written_for_people(page):
    assert "1,200 rows were read and 1,000 became interactions, from 2025-11-02 to 2026-01-30" in page
    assert "200 rows (16.7%) were quarantined" in page
    assert "The gate passed: the table may be published." in page
    assert "3 epochs with 2 workers on CPU took 6.0 s, 400 examples a second. Epoch 2 was best" in page


def test_what_models_add_and_cost_and_what_was_dropped(page):
    section = page[page.index('<section id="score">') : page.index('<section id="evaluate">')]
    assert "NDCG@10 0.3125 and the blend 0.3000 (difference +0.0125, interval −0.0020 to +0.0300). The" in section
    assert "so the blend makes the lists" in section
    assert "ALS was dropped and has no part in the new table." in section
    assert "It adds at most one standard error to the best blend" in section
    assert "(NDCG@10 +0.0004, interval −0.0010 to +0.0015)" in section
    als = re.search(r"<tr><td[^>]*><span[^>]*></span>ALS</td>(.*?)</tr>", section).group(1)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", als)
    assert cells == ["0.1000", "+0.0125", "−0.0020 to +0.0300", "2.0", "7.2", "dropped"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"selected": "ranker", "low": 0.001}, "The whole interval is above 0, so the ranker makes the lists."),
        ({"selected": "ranker", "low": -0.001}, "The configuration selects the ranker, so the ranker makes the lists."),
        ({"comparison": None}, "The blend makes the lists. It was not compared with another method."),
    ],
)
def test_the_choice_between_blend_and_ranker_in_words(changes, text):
    fusion = {"selected": "blend", "k": 10, "comparison": {"blend": 0.3, "ranker": 0.31}}
    fusion["comparison"]["difference"] = {"mean": 0.01, "low": changes.pop("low", 0), "high": 0.02}
    assert _selection({**fusion, **changes}).endswith(text)


def test_equal_runs_give_equal_pages(page, tmp_path):
    def timeless(text):  # the seconds of two runs differ
        return re.sub(r'<section id="timings">.*?</section>', "", text, flags=re.DOTALL)

    assert timeless(render(make_run(tmp_path))) == timeless(page)


@pytest.mark.parametrize(
    ("lacks", "note", "gone"),
    [
        ("network", "This run has no network", "Does the training loss fall?"),
        ("content", "The items have no content features", ">Diversity<"),
        ("times", "The log has no timestamps", "How many interactions are there over time?"),
    ],
)
def test_a_note_replaces_missing_data(tmp_path, page, lacks, note, gone):
    assert gone in page and note not in page
    without = render(make_run(tmp_path, **{lacks: False}))
    assert note in without and gone not in without
    assert re.findall(r'<section id="(\w+)">', without) == ANCHORS


def test_a_bare_run_still_has_a_page(tmp_path):
    context = make_context(tmp_path)
    finish_stage(context, "clean", None, {}, rows_in=0)
    bare = render(RunFacts(context.layout), verdict={"passed": True, "gates": []}, examples=(), bad_rows=[])
    assert "No user has held-out items, so this run has no metrics." in bare
    assert "No gates are configured: the table may be published." in bare


def test_a_run_of_version_0_1_0_has_a_page(page, tmp_path):
    facts = make_run(tmp_path)
    old = {**facts.metrics, "cold_start": {"users": {**COLD_START["users"]}, "items": {**COLD_START["items"]}}}
    old["cold_start"]["users"]["lists"] = {"segment": of_all(estimate(0.3)), "popularity": of_all(estimate(0.2))}
    old["cold_start"]["items"]["chance"] = old["cold_start"]["items"].pop("random")
    for row in old["groups"]:
        row["by"] = row["by"].replace("popularity", "taste")
    fusion = {**facts.fusion, "weights": {"item_cosine": 1.0}}
    fusion |= {"ships": fusion.pop("selected"), "contest": fusion.pop("comparison")}
    for stage, value, name in (("evaluate", old, "metrics.json"), ("score", fusion, "fusion.json")):
        write_json(facts.layout.table(stage, "backtest", name), value)
    text = render(RunFacts(facts.layout, registry.labels()))
    assert "Item kNN" in text and "The ranker is used only if" in text
    assert ">By segment<" in text and "A random order would reach a recall@10 of 25.0%" in text
    assert text.count("by popularity of the history?") == page.count("by popularity of the history?") == 4


def test_a_failed_gate_is_in_the_headline(tmp_path):
    gate = {**VERDICT["gates"][0], "passed": False, "message": "0.1000 < 0.2000"}
    failed = render(make_run(tmp_path), verdict={"passed": False, "gates": [gate]})
    assert "Not to be published: 1 of 1 gates failed (Accuracy of the blend)." in failed
    assert "0.1000 &lt; 0.2000" in failed


def test_the_page_is_replaced_as_a_whole(tmp_path, monkeypatch):
    facts, path = make_run(tmp_path), tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(report, "render", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(path, facts, verdict=VERDICT, examples=[], bad_rows=[], run_date=date(2026, 3, 1))
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("low", "mean", "high", "above", "expected"),
    [
        (
            0.01, 0.02, 0.03, 1.0,
            "Blend is better than ALS, the best single model, in 100 of 100 resamples "
            "(NDCG@10 +0.0200, +10.0%, interval +0.0100 to +0.0300).",
        ),
        (
            -0.03, -0.02, -0.01, 0.01,
            "Blend is worse than ALS, the best single model, in 99 of 100 resamples "
            "(NDCG@10 −0.0200, −10.0%, interval −0.0300 to −0.0100).",
        ),
        (
            -0.01, 0.02, 0.03, 0.9,
            "The difference between Blend and ALS, the best single model, is not significant "
            "(NDCG@10 +0.0200, +10.0%, interval −0.0100 to +0.0300).",
        ),
        (None, None, None, None, "Blend and ALS could not be compared: no user has held-out items."),
    ],
)  # fmt: skip
def test_differences_in_words(tmp_path, low, mean, high, above, expected):
    facts = make_run(tmp_path)
    facts.metrics |= {"accuracy": {"als": {"10": {"ndcg": {"mean": 0.2}}}}, "best_baseline": "svd"}
    estimate = {"mean": mean, "low": low, "high": high, "share_above": above}
    entry = {"model": "fused", "against": "als", "k": 10, "metrics": {"ndcg": estimate}}
    assert difference(facts, entry) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,234,567"), (0.12345, "0.1235"), (12.0, "12"), (1234.56, "1,234.6"), (None, "–")],
)
def test_numbers(value, text):
    assert formatting.number(value) == text


def test_months_without_events_are_shown():
    assert months_between("2025-11", "2026-02") == ["2025-11", "2025-12", "2026-01", "2026-02"]


def test_a_model_without_a_label_is_called_by_its_name(tmp_path):
    facts = make_run(tmp_path)
    assert facts.names(["als", "old_model"]) == ["ALS", "Old model"]
    models = ["a_model", "network", "item_cosine", "popularity"]
    assert facts.in_order(models) == ["popularity", "item_cosine", "network", "a_model"]


def test_the_terms_of_content_are_counted(tmp_path):
    facts = make_run(tmp_path)
    content = {
        "content_items": 1900,
        "content_terms": 70,
        "content_terms_rare": 1200,
        "content_terms_common": 3,
    }
    finish_stage(make_context(tmp_path), "baselines", "backtest", {}, seconds={}, **content)
    text = "Content compares 1,900 items by 70 words and categories. It ignores 1,200 that occur in one item only and 3"
    assert text in render(facts)


def test_plots_take_the_colours_of_the_page():
    svg = plots.bars(["a & b"], [3.0], ["3"])
    assert "currentColor" in svg and plots._INK not in svg
    assert "a &amp; b" in svg and "<metadata>" not in svg
