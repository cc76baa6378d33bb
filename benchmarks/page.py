"""Renders build/bench/results.json as Markdown: a table of all cases, then the details of each case.

    python benchmarks/page.py [PAGE]

Without PAGE it prints the text. With PAGE it replaces the text between the two `figures` marks of that file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import results

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
TIMED = "timed"
"""Key of a config that says what is timed: a text, or a text for "ours" and for each peer."""


def render(entries: list[Mapping[str, Any]]) -> str:
    cases = {case: list(of_case) for case, of_case in groupby(entries, key=lambda e: e["case"])}
    lines = ["| case | ours, s | peer | peer, s | ours / peer |", "|---|---|---|---|---|"]
    lines += [_row(entry) for of_case in cases.values() for entry in of_case]
    lines += ["", "Medians, with the quickest and the slowest run in brackets.", ""]
    for case, of_case in cases.items():
        lines += [f"**{case}**", "", *_details(of_case), ""]
    return "\n".join([*lines, *_machines(entries)])


def put(page: Path | None, text: str) -> None:
    """Replace the text between the page's marks. Without a page, print it."""
    if page is None:
        print(text)
        return
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise SystemExit(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}", encoding="utf-8")


def _row(entry: Mapping[str, Any]) -> str:
    ours = _seconds(entry["ours_seconds"], entry.get("ours_runs"))
    theirs = _seconds(entry["peer_seconds"], entry.get("peer_runs"))
    ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.3g}"
    return f"| {entry['case']} | {ours} | {entry['peer'] or ''} | {theirs} | {ratio} |"


def _seconds(median: float | None, runs: list[float] | None) -> str:
    if median is None:
        return ""
    spread = f" ({min(runs):.3g} – {max(runs):.3g})" if runs and len(runs) > 1 else ""
    return f"{median:.3g}{spread}"


def _details(entries: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of one case: what is timed, its config and its facts."""
    config = entries[-1]["config"]
    timed = config.get(TIMED, {})
    for name, text in ({"ours": timed} if isinstance(timed, str) else timed).items():
        yield f"- timed for {name}: {text}"
    rest = {key: value for key, value in config.items() if key != TIMED}
    if rest:
        yield f"- config: {_listed(rest)}"
    if "events" in config:
        rate = f"{config['events'] / entries[-1]['ours_seconds']:,.0f} events a second"
        grown = entries[-1].get("growth")
        yield f"- ours: {rate}" + (f"; {grown:.2f} times linear growth from the size before" if grown else "")
    facts = {"ours": entries[-1].get("ours_facts")} | {e["peer"]: e.get("peer_facts") for e in entries if e["peer"]}
    for name, of_name in facts.items():
        shown = {key: value for key, value in (of_name or {}).items() if key != "versions"}
        if shown:
            yield f"- {name}: {_listed(shown)}"


def _machines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    cases: dict[str, dict[str, None]] = {}
    for entry in entries:
        machine = {key: value for key, value in entry["machine"].items() if key != "versions"}
        text = f"{entry['date']}, {_listed(machine)}. Ours: {_listed(entry['machine']['versions'])}."
        cases.setdefault(text, {})[entry["case"]] = None
    for text, of_machine in cases.items():
        yield f"- {'; '.join(of_machine)}: {text}"
    yield ""
    versions = [(e["peer_facts"] or {}).get("versions") for e in entries]
    for text in dict.fromkeys(_listed(v) for v in versions if v):
        yield f"Peers: {text}."


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_formatted(value)}" for key, value in values.items())


def _formatted(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return f"({_listed(value)})"
    if isinstance(value, list) and len(value) > 10:
        return f"[{len(value)} values]"
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    arguments = parser.parse_args()
    entries = results()
    if not entries:
        sys.exit("no results yet; run `make bench`")
    put(arguments.page, render(sorted(entries, key=lambda e: e["case"])))


if __name__ == "__main__":
    main()
