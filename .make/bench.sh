#!/bin/bash
# All of benchmarks/, one after the other, cheap to dear. A script that fails does not stop the others, but is told at the end.
# bench.sh LOG JAVA: JAVA are the driver's options, LOG a folder with Gowalla's train.txt.gz, or of Parquet or CSV with user_id and item_id.
. "$(dirname "$0")/lib.sh"

log=$1 java=$2
failed=()

run() {
    local start=$SECONDS
    printf '\n== %s\n' "$*"
    "$PYTHON" "benchmarks/$1.py" "${@:2}" || failed+=("$1")
    printf '== %s: %d s\n' "$1" $((SECONDS - start))
}

[ -e "$log" ] || printf '%s is not there: a generated log of its shape takes its place (GOWALLA=FOLDER names another)\n' "$log"
run feed
for conf in demo retail; do
    run night "conf/$conf.yaml" --driver-java-options "$java"
done
run training build/bench/night/demo
for script in similarity als scoring; do
    run "$script" --log "$log"
done
run etl

"$PYTHON" benchmarks/page.py >build/bench/page.md || failed+=(page)
"$PYTHON" benchmarks/cost_model.py >build/bench/scaling.md || failed+=(cost_model)
printf '\n%d min %d s in all; figures in build/bench/results.json and build/bench/page.md\n' $((SECONDS / 60)) $((SECONDS % 60))
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
