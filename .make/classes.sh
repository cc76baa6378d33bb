#!/bin/bash
# Cleans a little log, and keeps the classes that Java has loaded for it (95 % of a night's), read and verified, for later jobs to map when they start.
# conf/driver.jvm names the file. Where it is not there, or was made by another Java, Java reads its classes one by one as ever.
. "$(dirname "$0")/lib.sh"

archive=.venv/share/spark-classes.jsa
work=$(mktemp -d "$REPO/build/.classes.XXXXXX")
trap 'rm -rf "$work"' EXIT

little_log() {
    "$PYTHON" - "$work" <<'PYTHON'
import random, sys
from pathlib import Path

draw, out = random.Random(7), Path(sys.argv[1])
events = [f"{draw.randrange(300)},{draw.randrange(90)},rating,{draw.randint(1, 5)},{10**9 + n}" for n in range(9000)]
for name, header, lines in (
    ("users", "user_id,age,gender,occupation", [f"{u},25,{'FM'[u % 2]},7" for u in range(300)]),
    ("items", "item_id,title,category,text", [f"{i},Film {i},Drama|Comedy,a film" for i in range(90)]),
    ("events", "user_id,item_id,event_type,rating,timestamp", [*events, ",,rating,5,1"]),
):
    (out / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
PYTHON
}

clean() {
    little_log
    .venv/bin/spark-submit --master 'local[*]' --driver-memory 1g \
        --driver-java-options "-XX:ArchiveClassesAtExit=$work/classes.jsa -Xlog:cds=off -Xlog:cds+dynamic=off -XX:+UseParallelGC" \
        jobs/clean.py --config conf/demo.yaml --set "paths.root=$work/root" \
        --set "paths.events=$work/events.csv" --set "paths.items=$work/items.csv" --set "paths.users=$work/users.csv"
}

export PYSPARK_PYTHON="$PYTHON" PYSPARK_DRIVER_PYTHON="$PYTHON"
logged "cleaning a little log, whose Java classes are kept" clean
# by a rename, for Java breaks on half a file; none is made by a Java that came without an archive of its own
[ ! -e "$work/classes.jsa" ] || mv "$work/classes.jsa" "$archive"
