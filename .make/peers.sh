#!/bin/bash
# Makes the environments of the libraries that benchmarks compare with: build/bench/peers, and build/bench/peers-replay
# for RePlay, which needs an older Polars. Neither shares packages with .venv. A stamp in each records its pins and its
# place.
. "$(dirname "$0")/lib.sh"

spark=("$(pin pyspark)" "$(pin pandas)")
arrays=("numpy==2.4.6; python_version >= '3.11'" "numpy==2.2.6; python_version < '3.11'"
    "scipy==1.17.1; python_version >= '3.11'" "scipy==1.15.3; python_version < '3.11'")

# environment NAME IMPORTS REQUIREMENT...: make build/bench/NAME and check that IMPORTS can be imported.
environment() {
    local name=$1 imports=$2 folder="$REPO/build/bench/$1"
    shift 2
    local ready
    ready="$folder/.ready-$( (cat .make/{lib,peers}.sh; printf '%s\n' "$folder" "$@") | sha256sum | cut -c1-16)"
    [ ! -e "$ready" ] || return 0
    rm -rf "$folder"
    logged "installing ${name/peers-/} into build/bench/$name" install "$folder" "$@"
    logged "importing $imports" "$folder/bin/python" -c "import ${imports// /, }"
    touch "$ready"
}

install() {
    "$("$PYTHON" -c 'import sys; print(sys._base_executable)')" -m venv "$1" &&
        .venv/bin/uv pip install --python "$1/bin/python" --only-binary implicit "${@:2}"
}

mkdir -p build/bench
exec 9>build/.setup.lock
flock 9 # of two makes at once the second waits for the first and then finds the stamps
uv_settings
environment peers "implicit duckdb polars pyarrow pyspark.ml.recommendation" \
    implicit==0.7.3 duckdb==2.0.0 polars==2.1.0 pyarrow==26.0.1 threadpoolctl==3.8.0 "${spark[@]}" "${arrays[@]}"
environment peers-replay replay.models "replay-rec[spark]==0.22.0" polars==1.44.2 "${spark[@]}" "${arrays[@]}"
