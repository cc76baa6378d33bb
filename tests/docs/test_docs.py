"""The documentation: links are valid, generated pages are current, and the commands of getting-started work."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from night import REPO, environment

PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`|^    .*$", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    faults = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            faults.append(f"{link}: no such heading")
    assert not faults


def test_a_page_fits_two_screens():
    """Two screens are 120 lines. Benchmarks may be longer: they hold tables of figures."""
    long = {str(page.relative_to(REPO)): n for page in PAGES if (n := len(page.read_text().splitlines())) > 120}
    assert [name for name in long if "benchmarks" not in name and name not in ("CHANGELOG.md", TABLES)] == []


TABLES = "docs/reference/tables.md"


def test_the_page_of_tables_is_rendered_from_the_schemas():
    render = runpy.run_path(str(REPO / ".make" / "tables.py"))["render"]
    assert (REPO / TABLES).read_text(encoding="utf-8") == render(), "run: make conf"


@pytest.mark.spark
def test_the_commands_of_getting_started_work(tmp_path):
    page = (REPO / "docs" / "getting-started.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    for name in ("jobs", "conf", "schemas", "recsys_spark"):
        (tmp_path / name).symlink_to(REPO / name)
    env = environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", PYTHONPATH=str(REPO))
    output = []
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output.append(done.stdout)
        assert done.returncode == 0, done.stdout
    assert len(blocks) == 5
    assert "ok " in output[3] and "sku" in output[4]
