"""The page, rendered without Spark from runs that have everything, and from runs that lack this or that."""

import html
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from factories import finish_stage, make_context
from recsys_spark import columns
from recsys_spark.metrics.ranking import METRICS
from recsys_spark.report import formatting, plots
from recsys_spark.report import render as report
from recsys_spark.report.clean import _months
from recsys_spark.report.formatting import difference
from recsys_spark.report.fusion import _shipped
from recsys_spark.report.run_facts import RunFacts
from recsys_spark.storage.manifest import write_json

EVIL = "<script>alert(1)</script>"
WORDS = [
    "clean",
    "split",
    "baselines",
    "features",
    "train",
    "score",
    "evaluate",
    "newcomers",
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
                ("taste", ("niche (1–20%)", "mixed (20–40%)", "mainstream (40–99%)")),
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
    finish_stage(context, "clean", "backtest", {}, cleaned, **counts, **(dates if times else dict.fromkeys(dates)))
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
        "ships": "blend", "confidence": 0.95,
        "leave_one_out": dict.fromkeys(models[:-1], gap),
        "dropped": [{"model": "als", "mean": 0.0004, "low": -0.001, "high": 0.0015}],
        "contest": {"blend": 0.3, "ranker": 0.3125, "difference": gap},
    }  # fmt: skip
    write_json(layout.table("score", "backtest", "fusion.json"), fusion)
    write_json(layout.table("evaluate", "backtest", "metrics.json"), metrics(models, content))
    return RunFacts(layout)


def render(facts, verdict=VERDICT, examples=(USER,), bad_rows=BAD):
    return report.render(facts, verdict=verdict, examples=list(examples), bad_rows=bad_rows, run_date=date(2026, 3, 1))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return render(make_run(tmp_path_factory.mktemp("run")))


class Fetches(HTMLParser):
    """Collects what a browser would ask a server for, and checks that tags are closed."""

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
    assert re.findall(r'<section id="(\w+)">', page) == WORDS
    assert re.findall(r'<a class="word" href="#(\w+)">', page) == WORDS


def test_asks_nobody_for_anything(page):
    parser = Fetches()
    parser.feed(page)
    assert parser.found == []
    assert parser.open == []
    assert "@import" not in page and "url(http" not in page


def test_data_is_escaped_wherever_it_stands(page):
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 9
    assert "because of &lt;script&gt;" in page


def test_figures_are_titled_and_explained(page):
    figures = re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 17
    assert all("<h3>" in f and "<svg" in f and re.search(r"<figcaption>\S.*\.</figcaption>", f) for f in figures)


def test_the_price_of_diversity_stands_where_it_was_asked_for(tmp_path, page):
    assert "The price of" not in page
    facts = make_run(tmp_path)
    entry = {"users": 40, "ndcg": 0.2, "diversity": 0.5, "coverage": 0.3}
    facts.metrics["price"] = [
        {**entry, "lambda": 1.0},
        {**entry, "lambda": 0.7, "ndcg": 0.1, "diversity": 0.7},
    ]
    found = render(facts)
    assert "The price of diversity" in found and "The price of coverage" in found
    assert "On 40 users: to the right the items of a list differ more" in found
    assert "λ 0.7" in found
    assert "The price of a cap" not in found
    capped = [{**entry, "cap": None}, {**entry, "cap": 3, "ndcg": 0.15, "diversity": 0.6}]
    facts.metrics["price"] += capped
    found = render(facts)
    assert "The price of a cap, by diversity" in found and "The price of a cap, by coverage" in found
    assert "at most 3" in found and "any number" in found
    assert (
        "A cap is the most items of one category in a list, which may end early for it; the large dot is tonight&#39;s."
        in found
    )
    facts.metrics["price"] = capped
    assert "The price of diversity" not in render(facts) and "The price of a cap" in render(facts)
    facts.metrics["price"] = [{**entry, "lambda": 1.0, "diversity": None}]  # without categories
    assert "The price of diversity" not in render(facts) and "The price of coverage" in render(facts)


def plain(facts):
    """The page's words as they are read."""
    return html.unescape(render(facts))


def test_groups_of_users_in_words_and_numbers(page):
    text = html.unescape(page)
    assert (
        "By length of history, users with 1–5 items are served worst and users with 6–9 items best "
        "(NDCG@10 0.1000 against 0.1000, a gap of 0.0312, interval +0.0100 to +0.0524)." in text
    )
    apart = "By segment, the lowest and the highest cannot be told apart: users of segment $\\bad$ and users of segment $x_<script>"
    assert apart in text
    assert "By taste for what is popular, " not in text  # of too few users for a gap
    niche = re.search(r"<tr><td[^>]*>niche \(1–20%\)</td>(.*?)</tr>", page).group(1)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", niche)
    assert cells == ["20", "0.1000", "0.0900–0.1100", "0.0875", "100", "140", "+40.0%", "+30.0% to +50.0%"]


def test_whose_lists_lean_to_the_popular_in_words(tmp_path):
    facts = make_run(tmp_path)
    few, many = group("history", "1–5", listed=150.0), group("history", "6–9", listed=7.5)
    said = "items that 150 users have on average, after 100 in their histories (+50.0%, interval +40.0% to +60.0%)."
    facts.metrics["groups"] = [few, many]
    assert f"The lists lean most to the popular for users with 1–5 items: {said}" in plain(facts)
    # a larger lift that may be none does not hide the sure one
    many["popularity"] |= {"list": 200.0, "lift": {"mean": 1.0, "low": -0.5, "high": 2.5}}
    assert f"The lists lean most to the popular for users with 1–5 items: {said}" in plain(facts)
    facts.metrics["groups"] = [many, group("history", "1–5", listed=90.0)]
    assert "No group's lists surely lean to the popular; the largest lift is that of users with 6–9 items" in plain(
        facts
    )


def test_groups_of_which_less_is_known(tmp_path):
    facts = make_run(tmp_path)
    nothing = {"mean": None, "low": None, "high": None}
    unknown = {"profile": None, "list": None, "lift": nothing}
    facts.metrics |= {
        "groups": [{**group("history", name), "popularity": unknown} for name in ("0", "1")],
        "gaps": [],
    }
    found = render(facts)
    assert "Popularity lift" not in found and "lean most" not in found and "surely lean" not in found
    assert re.search(r'<td class="n">–</td><td class="n">–</td><td class="n">–</td><td class="n">–</td></tr>', found)
    # as an earlier version of the evaluate stage wrote them
    facts.metrics["groups"] = [
        {"by": "history", "group": name, "users": 9, "metrics": {"ndcg": estimate(0.1)}} for name in ("0", "1")
    ]
    facts.metrics.pop("gaps")
    assert "In numbers, by length of history" in render(facts)


@pytest.mark.parametrize("groups", [[], [group("history", "1–5")]])
def test_without_groups_to_compare_nothing_is_said_of_them(tmp_path, page, groups):
    asked = "Are all kinds of users served alike?"
    facts = make_run(tmp_path)
    facts.metrics["groups"] = groups
    without = render(facts)
    assert asked in page and "Popularity lift" in page
    assert asked not in without and "Popularity lift" not in without
    assert re.findall(r'<section id="(\w+)">', without) == WORDS


def test_without_segments_the_other_groups_stand(tmp_path):
    facts = make_run(tmp_path)
    facts.metrics["groups"] = [row for row in facts.metrics["groups"] if row["by"] != "segment"]
    found = render(facts)
    assert "each dot is a group of 20 users" in found
    assert "By segment" not in found and "the segments that the log names" not in found
    assert ">By length of history<" in found and ">By taste for what is popular<" in found


def of_all(found):
    return dict.fromkeys(METRICS, found)


NEWCOMERS = {
    "users": {
        "users": 120,
        "lists": {name: of_all(estimate(m)) for name, m in (("segment", 0.3), ("popularity", 0.2))},
        "difference": of_all({**estimate(0.1), "share_above": 1.0}),
    },
    "items": {
        "users": 900,
        "items": 40,
        "catalogue": 1000,
        "models": {m: of_all(estimate(0.5)) for m in ("content", "fused")},
        "chance": {"recall": 0.25, "ndcg": 0.125},
        "share_of_places": 0.003,
    },
}


def section_of(page, word):
    return re.search(rf'<section id="{word}">.*?</section>', page, flags=re.DOTALL).group()


def test_newcomers_are_told_of_in_words_figures_and_tables(tmp_path):
    facts = make_run(tmp_path)
    facts.metrics["cold_start"] = NEWCOMERS
    found = section_of(render(facts), "newcomers")
    assert found.count("<svg") == 2 and found.count("<table") == 2
    assert "120 were hidden whole and then served as the night serves whom it has never seen" in found
    assert "Users have no segments here (clean.segment_by), so the two lists are one." in found
    assert "40 were hidden whole, with all that was done with them. For 900 users" in found
    assert "10 drawn by lot would find 25.0%" in found
    assert "they take 0.3% of the first 10 places; they are 4.0% of the catalogue" in found
    row = re.search(r"<tr><td[^>]*><span[^>]*></span>By lot</td>(.*?)</tr>", found).group(1)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["0.1250", "–", "0.2500", "–"]
    row = re.search(r"<tr><td[^>]*><span[^>]*></span>By segment</td>(.*?)</tr>", found).group(1)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["0.3000", "0.2900–0.3100", "0.3000", "0.3000"]


def test_who_was_held_out_whole_is_told_with_the_split(tmp_path):
    facts = make_run(tmp_path)
    assert "hidden whole" not in section_of(render(facts), "split")
    counts = {"train": 9, "valid": 1, "test": 1, "users_with_cold_user": 12, "cold_item": 34}
    finish_stage(make_context(tmp_path), "split", "backtest", {}, **counts)
    said = "these were hidden whole: 12 users, and 34 pairs that other users have with hidden items"
    assert said in section_of(render(facts), "split")


@pytest.mark.parametrize("able", ["content", "network"])
def test_a_blend_that_cannot_rank_new_items_is_told(tmp_path, able):
    """The blend is of popularity, als and network."""
    facts = make_run(tmp_path)
    models = {m: of_all(estimate(0.5)) for m in (able, "fused")}
    facts.metrics["cold_start"] = {"items": {**NEWCOMERS["items"], "models": models}}
    found = section_of(render(facts), "newcomers")
    assert ("None of these models has a say in the blend" in found) == (able == "content")


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (0.1, "That is better than what is popular with everybody (NDCG@10 +0.1000, interval +0.0900 to +0.1100)."),
        (-0.1, "That is worse than what is popular with everybody (NDCG@10 −0.1000"),
        (0.0, "Whether that beats what is popular with everybody cannot be told (NDCG@10 +0.0000"),
    ],
)  # fmt: skip
def test_whether_segments_help_new_users(tmp_path, mean, said):
    facts = make_run(tmp_path, segment_by=["age"])
    gap = of_all({**estimate(mean), "share_above": 0.5})
    facts.metrics["cold_start"] = {"users": {**NEWCOMERS["users"], "difference": gap}}
    found = section_of(render(facts), "newcomers")
    assert said in found and "most popular in their segment (age)" in found and "By lot" not in found


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "Nobody was held out whole in this run"),
        ({"cold_user_share": 0.1}, "The share of the users to hold out whole came to nobody."),
        ({"cold_item_share": 0.1}, "no model of this run can tell items that nobody chose apart"),
    ],
)
def test_newcomers_who_were_not_measured_get_a_word(tmp_path, shares, said):
    found = section_of(render(make_run(tmp_path, split=shares)), "newcomers")
    assert said in found and found.count('class="note"') == 1 and "<svg" not in found


def test_numbers_are_written_for_people(page):
    assert "1,200 rows came in and 1,000 became interactions, from 2025-11-02 to 2026-01-30" in page
    assert "200 rows (16.7%) were quarantined" in page
    assert "The gate passed: the table may go live." in page
    assert "3 epochs with 2 workers on CPU, 6.0 s in all, 400 examples a second; epoch 2 was best" in page


def test_what_models_add_and_cost_and_what_was_dropped(page):
    section = page[page.index('<section id="score">') : page.index('<section id="evaluate">')]
    assert "0.3125 against the blend&#39;s 0.3000, +0.0125, interval −0.0020 to +0.0300; it ships only when" in section
    assert "so the blend makes the lists" in section
    assert "ALS was dropped: it adds no more to the best blend than one standard error of that" in section
    assert "(NDCG@10 +0.0004, interval −0.0010 to +0.0015)" in section
    als = re.search(r"<tr><td[^>]*><span[^>]*></span>ALS</td>(.*?)</tr>", section).group(1)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", als)
    assert cells == ["0.1000", "+0.0125", "−0.0020 to +0.0300", "2.0", "7.2", "dropped"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ships": "ranker", "low": 0.001}, "so it makes the lists."),
        ({"ships": "ranker", "low": -0.001}, "it makes the lists as the configuration asks."),
        ({"contest": None}, "The blend makes the lists; no other was tried."),
    ],
)
def test_which_fusion_ships_in_words(changes, said):
    fusion = {"ships": "blend", "k": 10, "contest": {"blend": 0.3, "ranker": 0.31}}
    fusion["contest"]["difference"] = {"mean": 0.01, "low": changes.pop("low", 0), "high": 0.02}
    assert _shipped({**fusion, **changes}).endswith(said)


def test_equal_runs_give_equal_pages(page, tmp_path):
    def timeless(text):  # a second run takes other seconds
        return re.sub(r'<section id="timings">.*?</section>', "", text, flags=re.DOTALL)

    assert timeless(render(make_run(tmp_path))) == timeless(page)


@pytest.mark.parametrize(
    ("lacks", "said", "gone"),
    [
        ("network", "No network was trained in this run", "Training loss"),
        ("content", "no content: their users alone tell what they are", ">Diversity<"),
        ("times", "The log has no times", "Interactions over time"),
    ],
)
def test_what_is_missing_is_left_out_with_a_word(tmp_path, page, lacks, said, gone):
    assert gone in page and said not in page
    without = render(make_run(tmp_path, **{lacks: False}))
    assert said in without and gone not in without
    assert re.findall(r'<section id="(\w+)">', without) == WORDS


def test_a_bare_run_still_has_a_page(tmp_path):
    context = make_context(tmp_path)
    finish_stage(context, "clean", "backtest", {}, rows_in=0)
    bare = render(RunFacts(context.layout), verdict={"passed": True, "gates": []}, examples=(), bad_rows=[])
    assert "No user has held-out items in this run" in bare
    assert "No gates are set: the table may go live." in bare


def test_a_failed_gate_is_the_first_thing_said(tmp_path):
    gate = {**VERDICT["gates"][0], "passed": False, "message": "0.1000 < 0.2000"}
    failed = render(make_run(tmp_path), verdict={"passed": False, "gates": [gate]})
    assert "Not to be published. 1 of 1 gates failed: The blend is good enough." in failed
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
        (0.01, 0.02, 0.03, 1.0, "Blend beats ALS, the best baseline, in 100 of 100 resamples (NDCG@10 +0.0200, +10.0%, interval +0.0100 to +0.0300)."),
        (-0.03, -0.02, -0.01, 0.01, "Blend falls behind ALS, the best baseline, in 99 of 100 resamples (NDCG@10 −0.0200, −10.0%, interval −0.0300 to −0.0100)."),
        (-0.01, 0.02, 0.03, 0.9, "Blend and ALS, the best baseline, cannot be told apart (NDCG@10 +0.0200, +10.0%, interval −0.0100 to +0.0300)."),
    ],
)  # fmt: skip
def test_differences_in_words(low, mean, high, above, expected):
    found = {"mean": mean, "low": low, "high": high, "share_above": above}
    entry = {"model": "fused", "against": "als", "k": 10, "metrics": {"ndcg": found}}
    assert difference(entry, "the best baseline", 100, base=0.2) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,234,567"), (0.12345, "0.1235"), (12.0, "12"), (1234.56, "1,234.6"), (None, "–")],
)
def test_numbers(value, text):
    assert formatting.number(value) == text


def test_months_without_events_are_shown():
    assert _months("2025-11", "2026-02") == ["2025-11", "2025-12", "2026-01", "2026-02"]


def test_every_model_has_a_name_and_a_colour_of_its_own():
    names = {*columns.MODELS, columns.FUSED}
    assert names <= set(formatting.MODELS) and set(plots.COLOURS) == names
    assert len({formatting.model(name) for name in names}) == len(set(plots.COLOURS.values())) == len(names)


def test_what_content_compares_is_told(tmp_path):
    facts = make_run(tmp_path)
    content = {
        "content_items": 1900,
        "content_terms": 70,
        "content_terms_rare": 1200,
        "content_terms_common": 3,
    }
    finish_stage(make_context(tmp_path), "baselines", "backtest", {}, seconds={}, **content)
    said = "Content compares 1,900 items by 70 words and categories; 1,200 more are in one item only, and 3 in so many"
    assert said in render(facts)


def test_plots_take_the_colours_of_the_page():
    svg = plots.bars(["a & b"], [3.0], ["3"])
    assert "currentColor" in svg and plots._INK not in svg
    assert "a &amp; b" in svg and "<metadata>" not in svg
