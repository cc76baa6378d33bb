#!/bin/bash
# What ours is measured beside: build/bench/peers, and build/bench/peers-replay for RePlay, which asks for an older Polars. Neither has
# anything of .venv's. Done once: a stamp in each says for which pins, and where.
. "$(dirname "$0")/lib.sh"

spark=("$(pin pyspark)" "$(pin pandas)")
arrays=("numpy==2.4.6; python_version >= '3.11'" "numpy==2.2.6; python_version < '3.11'"
    "scipy==1.17.1; python_version >= '3.11'" "scipy==1.15.3; python_version < '3.11'")

# environment NAME IMPORTS REQUIREMENT...: the environment build/bench/NAME, in which IMPORTS can be imported.
environment() {
    local name=$1 imports=$2 folder="$REPO/build/bench/$1"
    shift 2
    local ready
    ready="$folder/.ready-$( (cat .make/{lib,peers}.sh; printf '%s\n' "$folder" "$@") | sha256sum | cut -c1-16)"
    [ ! -e "$ready" ] || return 0
    rm -rf "$folder"
    logged "installing ${name/peers-/} into build/bench/$name (1 minute)" install "$folder" "$@"
    logged "importing $imports" "$folder/bin/python" -c "import ${imports// /, }"
    touch "$ready"
}

install() {
    "$("$PYTHON" -c 'import sys; print(sys._base_executable)')" -m venv "$1" &&
        "$1/bin/python" -m pip install --disable-pip-version-check --only-binary implicit "${@:2}"
}

mkdir -p build/bench
exec 9>build/.setup.lock
flock 9 # two makes at once: the second waits for the first, and has nothing left to do
environment peers "implicit duckdb polars pyarrow pyspark.ml.recommendation" \
    implicit==0.7.3 duckdb==2.0.0 polars==2.1.0 pyarrow==26.0.1 threadpoolctl==3.8.0 "${spark[@]}" "${arrays[@]}"
environment peers-replay replay.models "replay-rec[spark]==0.22.0" polars==1.44.2 "${spark[@]}" "${arrays[@]}"
