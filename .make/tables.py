"""Prints docs/reference/tables.md: every table by its contract in schemas/."""

import json
from pathlib import Path

SCHEMAS = Path(__file__).parents[1] / "schemas"
HEAD = """# Tables

`make conf` renders this page from `schemas/`. Tables are folders of Parquet files, `top_n` is a Delta table.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(contract: dict) -> str:
    lines = [f"## {contract['table']}", "", contract["description"], ""]
    key = ", ".join(f"`{name}`" for name in contract.get("key", []))
    lines += [f"Key: {key}.", ""] if key else []
    lines += ["| column | type | null | meaning |", "|---|---|---|---|"]
    for field in contract["fields"]:
        unit = f" [{field['unit']}]" if field.get("unit") else ""
        null = "yes" if field["nullable"] else "no"
        lines.append(f"| `{field['name']}` | {cell(field['type'])} | {null} | {cell(field['meaning'])}{unit} |")
    return "\n".join(lines)


def render() -> str:
    contracts = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.json"))]
    return "\n\n".join([HEAD.rstrip(), *map(table, contracts)]) + "\n"


if __name__ == "__main__":
    print(render(), end="")
