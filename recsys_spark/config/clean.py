"""The section `clean`: input formats, column names, and the rules that quarantine or remove events."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.section import Count, Name, Positive, Section

Range = tuple[float, float] | None


class EventColumns(Section):
    """Column names of the event log. null: the log has no such column."""

    user_id: Name = "user_id"
    """Column with the user id."""
    item_id: Name = "item_id"
    """Column with the item id."""
    event_ts: Name | None = "timestamp"
    """Column with the event time."""
    event_type: Name | None = None
    """Column with the event type."""
    rating: Name | None = None
    """Column with the rating."""
    quantity: Name | None = None
    """Column with the quantity."""
    price: Name | None = None
    """Column with the price."""


class ItemColumns(Section):
    """Column names of the items file. null: the file has no such column."""

    item_id: Name = "item_id"
    """Column with the item id."""
    title: Name | None = "title"
    """Column with the title."""
    category: Name | None = "category"
    """Column with the categories, separated by category_separator."""
    text: Name | None = None
    """Column with the description of the item."""
    withdrawn: Name | None = None
    """Column that is true for items that must not be recommended."""


class UserColumns(Section):
    """Column names of the users file."""

    user_id: Name = "user_id"
    """Column with the user id."""
    attributes: list[Name] = []
    """Columns to keep as user attributes. segment_by chooses from them."""


class Clean(Section):
    """Cleaning: reads raw events and writes interactions, the quarantine, users and items."""

    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = "auto"
    """Format of all input files. auto: decided by the file name's suffix."""
    columns: EventColumns = EventColumns()
    item_columns: ItemColumns = ItemColumns()
    user_columns: UserColumns = UserColumns()
    category_separator: Name = "|"
    """Text between two categories of an item."""
    segment_by: list[str] = []
    """User attributes that define segments. A user without history gets the popular items of their segment. Empty: no
    segments."""
    time_unit: Literal["iso", "s", "ms", "us"] = "iso"
    """Format of the event time. iso: ISO 8601 text or a timestamp column, in UTC if no time zone is given. s, ms, us:
    seconds, milliseconds or microseconds since 1970."""
    event_weights: Annotated[dict[str, Positive], Field(min_length=1)] = {
        "view": 1.0,
        "cart": 3.0,
        "purchase": 5.0,
        "rating": 1.0,
    }
    """Weight of each event type. Events of other types are quarantined."""
    default_event_type: str = "view"
    """Event type of all events if the log has no column for it."""
    earliest: date = date(1995, 1, 1)
    """First valid date (UTC). Older events are quarantined."""
    rating_range: Range = None
    """Lowest and highest valid rating. Other events are quarantined. null: no limits."""
    quantity_range: Range = None
    """Lowest and highest valid quantity, in pieces. Does not apply to returns. null: no limits."""
    price_range: Range = None
    """Lowest and highest valid price, in the currency of the log. null: no limits."""
    returns: bool = True
    """Whether an event with a negative quantity is a return, which cancels the user's latest purchases of the item.
    false: it is quarantined."""
    require_known_items: bool = False
    """Whether to quarantine events whose item is missing from the items file."""
    max_events_per_user_day: Count | None = 5000
    """Maximum number of events of a user on one day (UTC). The events of users above it are quarantined as bot traffic.
    null: no limit."""
    max_events_per_user: Count | None = 200_000
    """Maximum number of events of a user in the whole log. The events of users above it are quarantined as bot traffic.
    null: no limit."""
    k_core_users: Count = 1
    """Minimum number of items per user. Users below it are removed. This repeats with k_core_items until both minimums
    hold."""
    k_core_items: Count = 1
    """Minimum number of users per item. Raise both minimums if the log is noisy or too large."""

    @field_validator("rating_range", "quantity_range", "price_range", mode="before")
    @classmethod
    def _as_pair(cls, value: Any) -> Any:
        """YAML has lists, and whole numbers where a strict float is asked for."""
        if isinstance(value, list):
            return tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value)
        return value

    @field_validator("rating_range", "quantity_range", "price_range")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if value and value[0] > value[1]:
            raise ValueError(f"the lowest value {value[0]} is above the highest {value[1]}. Swap them")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Clean:
        if self.columns.event_type is None and self.default_event_type not in self.event_weights:
            raise ValueError(
                f"default_event_type {self.default_event_type!r} has no weight. "
                f"Add it to event_weights or use one of {', '.join(self.event_weights)}"
            )
        unlisted = [name for name in self.segment_by if name not in self.user_columns.attributes]
        if unlisted:
            raise ValueError(
                f"segment_by has attributes that user_columns.attributes lacks: {', '.join(unlisted)}. Add them there"
            )
        return self
