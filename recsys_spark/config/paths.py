"""The section `paths`: input files and the output folder."""

from __future__ import annotations

from pydantic import ConfigDict, field_validator

from recsys_spark.config.section import Section


class Paths(Section):
    """Input files and the output folder. A relative path starts at the working directory."""

    root: str = ""
    """Folder for the runs, the id index and the published table. Every node must see it as this path."""
    events: str = ""
    """Event log: a file, a folder, a glob pattern, or folders partitioned by date."""
    items: str | None = None
    """Items file with titles, categories and texts. null: none. The content model, diversity by category and category
    caps need it."""
    users: str | None = None
    """Users file with attributes. null: none. User segments need it."""

    # the defaults are checked too, so that a missing path is reported under its key
    model_config = ConfigDict(validate_default=True)

    @field_validator("root", "events")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("no path. Set it in the overlay or with --set")
        return value

    @field_validator("root")
    @classmethod
    def _not_a_url(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("a URL is not supported. Use a path that is mounted on every node")
        return value
