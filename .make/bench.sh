#!/bin/bash
# Runs all benchmarks one after the other, short ones first. A script that fails does not stop the others.
# bench.sh LOG: LOG is a folder with Gowalla's train.txt.gz, or with Parquet or CSV files that have user_id and item_id.
. "$(dirname "$0")/lib.sh"

log=$1
failed=()

run() {
    local start=$SECONDS
    printf '\n== %s\n' "$*"
    "$PYTHON" "benchmarks/$1.py" "${@:2}" || failed+=("$1")
    printf '== %s: %d s\n' "$1" $((SECONDS - start))
}

[ -e "$log" ] || printf '%s does not exist. A log of the same shape is generated (GOWALLA=FOLDER: another log)\n' "$log"
run feed
for conf in demo retail; do
    run night "conf/$conf.yaml"
done
run training build/bench/night/demo
for script in similarity als scoring; do
    run "$script" --log "$log"
done
run etl

"$PYTHON" benchmarks/page.py >build/bench/page.md || failed+=(page)
"$PYTHON" benchmarks/cost_model.py >build/bench/scaling.md || failed+=(cost_model)
printf '\n%d min in total. Figures: build/bench/results.json and build/bench/page.md\n' $((SECONDS / 60))
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
