"""Renders build/bench/results.json as a Markdown table of all cases.

    python benchmarks/page.py [PAGE]

Without PAGE it prints the text. With PAGE it replaces the text between the two `figures` marks of that file. What each
case times, its config and its further facts are in results.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import results

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def render(entries: list[Mapping[str, Any]]) -> str:
    lines = ["| case | ours, s | peer | peer, s | ours / peer |", "|---|---|---|---|---|"]
    lines += [_row(entry) for entry in entries]
    return "\n".join([*lines, "", *_machines(entries)])


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


def _machines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each date and machine, with its cases and versions."""
    cases: dict[str, dict[str, None]] = {}
    for entry in entries:
        machine = {key: value for key, value in entry["machine"].items() if key != "versions"}
        text = f"{entry['date']}, {_listed(machine)}. Ours: {_listed(entry['machine']['versions'])}"
        cases.setdefault(text, {})[entry["case"]] = None
    for text, of_machine in cases.items():
        yield f"- {'; '.join(of_machine)}: {text}"
    versions = [(e["peer_facts"] or {}).get("versions") for e in entries]
    for text in dict.fromkeys(_listed(v) for v in versions if v):
        yield f"- Peers: {text}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path)
    arguments = parser.parse_args()
    entries = results()
    if not entries:
        sys.exit("no results yet. Run `make bench`")
    put(arguments.page, render(sorted(entries, key=lambda e: e["case"])))


if __name__ == "__main__":
    main()
