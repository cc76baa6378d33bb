"""Cleans a log of benchmarks/etl.py with DuckDB, by the rules of the clean stage. It writes the same tables.

    python duckdb_clean.py EVENTS.csv FOLDER CUTOFF EARLIEST PER_DAY CORE

Writes interactions, quarantine, users and items as Parquet into FOLDER. The last line of its output is JSON with the
seconds and the counts. Rules, order and k-core are those of the stage. DuckDB's reader has no column for malformed
rows, so they are recognised by their number of commas.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import duckdb

ROW_RULES = """
    case
        when not torn is null then 'malformed_row'
        when user_id is null then 'missing_user'
        when item_id is null then 'missing_item'
        when event_ts is null then 'unparsable_time'
        when event_ts < epoch_us(timestamp '{earliest}') then 'too_old'
        when event_ts >= epoch_us(timestamp '{cutoff}') then 'future_time'
        when event_type is null or event_type not in ('view', 'cart', 'purchase', 'rating') then 'unknown_event_type'
        when nullif(trim(raw_rating), '') is not null and rating is null then 'unparsable_number'
        when rating < 1 or rating > 5 then 'rating_out_of_range'
    end"""


def clean(db: duckdb.DuckDBPyConnection, events: str, out: Path, limits: dict[str, str]) -> None:
    db.execute(f"""
        create temp table lines as select case when len(parts) <> 5 then line end as torn, parts[1] as raw_user_id,
        parts[2] as raw_item_id, parts[3] as raw_event_ts,
            parts[4] as raw_event_type, parts[5] as raw_rating
        from (select line, string_split(line, ',') as parts
              from read_csv('{events}', columns = {{'line': 'varchar'}}, delim = '\\x01', quote = '', escape = '',
                            header = true))""")
    db.execute(f"""
        create temp table rows as
        select *, {ROW_RULES.format(**limits)} as reason from (
            select *, nullif(trim(raw_user_id), '') as user_id, nullif(trim(raw_item_id), '') as item_id,
                (round(try_cast(raw_event_ts as double) * 1e6))::bigint as event_ts, nullif(trim(raw_event_type), '') as
                event_type, try_cast(raw_rating as float) as rating
            from lines)""")
    db.execute("drop table lines")
    db.execute("""
        create temp table unique_rows as
        select * replace (case when reason is null and
            row_number() over (partition by reason is null, user_id, item_id, event_ts, event_type, rating) > 1 then
            'duplicate' else reason end as reason)
        from rows""")
    db.execute("drop table rows")
    db.execute("""
        create temp table user_ids as select user_id, row_number() over (order by user_id) - 1 as user_idx
        from (select distinct user_id from unique_rows where reason is null or reason = 'duplicate')""")
    db.execute("""
        create temp table item_ids as select item_id, row_number() over (order by item_id) as item_idx
        from (select distinct item_id from unique_rows where reason is null or reason = 'duplicate')""")
    db.execute(f"""
        create temp table bots as select distinct user_id from (
            select user_id, event_ts // 86400000000 as day, count(*) as n from unique_rows where reason is null group by
            all)
        where n > {limits["per_day"]}""")
    db.execute("""
        create temp table judged as select r.* exclude (reason), user_idx, item_idx, case when b.user_id is not null
        then 'bot_user' end as reason from unique_rows r join user_ids using (user_id) join item_ids using (item_id)
        left join bots b on b.user_id = r.user_id
        where r.reason is null""")
    core(db, int(limits["core"]))
    final = "coalesce(reason, case when pair_kept is null then 'below_k_core' end)"
    db.execute(f"""
        create temp table final as
        select j.* exclude (reason), {final} as reason from judged j
        left join (select user_idx, item_idx, true as pair_kept from pairs) using (user_idx, item_idx)""")
    db.execute("drop table judged")
    db.execute(f"""
        copy (select user_idx, item_idx::int as item_idx, make_timestamp(event_ts) as event_ts, event_type, rating,
            case event_type when 'view' then 1 when 'cart' then 3 when 'purchase' then 5 else 1 end::float as weight
            from final where reason is null) to '{out}/interactions.parquet'""")
    names = "user_id", "item_id", "event_ts", "event_type", "rating"
    fields = ", ".join(f"'{name}': raw_{name}" for name in names)
    shown = f"to_json({{{fields}}})"
    db.execute(f"""
        copy (select reason, {shown} as row from unique_rows where reason is not null
              union all select reason, {shown} from final where reason is not null) to '{out}/quarantine.parquet'""")
    db.execute(f"copy user_ids to '{out}/users.parquet'")
    db.execute(f"""
        copy (select i.* from item_ids i where item_idx in (select item_idx from final where reason is null))
        to '{out}/items.parquet'""")


def core(db: duckdb.DuckDBPyConnection, least: int) -> None:
    """The table `pairs` of the k-core."""
    db.execute("create temp table pairs as select distinct user_idx, item_idx from judged where reason is null")
    while True:
        before = db.execute("select count(*) from pairs").fetchone()[0]
        for side in ("item_idx", "user_idx"):
            db.execute(f"""
                create or replace temp table pairs as select * from pairs
                semi join (select {side} from pairs group by 1 having count(*) >= {least}) using ({side})""")
        if db.execute("select count(*) from pairs").fetchone()[0] == before:
            return


def main() -> None:
    events, out, cutoff, earliest, per_day, k = sys.argv[1:]
    folder = Path(out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clock = time.perf_counter()
    db = duckdb.connect()
    db.execute(f"set temp_directory = '{folder}/spill'; set preserve_insertion_order = false; set memory_limit = '8GB'")
    clean(db, events, folder, {"cutoff": cutoff, "earliest": earliest, "per_day": per_day, "core": k})
    seconds = time.perf_counter() - clock

    def count(name: str) -> int:
        return db.execute(f"select count(*) from '{folder}/{name}.parquet'").fetchone()[0]

    reasons = dict(
        db.execute(f"select reason, count(*) from '{folder}/quarantine.parquet' group by 1 order by 1").fetchall()
    )
    told = {"interactions": count("interactions"), "users": count("users"), "items": count("items")}
    told |= {
        "rows_in": told["interactions"] + sum(reasons.values()),
        "quarantined_by_reason": reasons,
        "duckdb": duckdb.__version__,
    }
    print(json.dumps({"seconds": seconds, **told}))


if __name__ == "__main__":
    main()
