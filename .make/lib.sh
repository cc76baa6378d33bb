# Paths and functions that the scripts beside this file share. They source it.
set -euo pipefail

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="$REPO/.venv/bin/python"
LOG="$REPO/build/setup.log"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/recsys_spark"
cd "$REPO"
mkdir -p build

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# logged TEXT COMMAND...: print TEXT, run COMMAND with its output in the log, and print the end of the log if it fails.
logged() {
    local text=$1 start=$SECONDS
    shift
    printf '  %s ... ' "$text"
    printf '\n== %s\n' "$text" >>"$LOG"
    if "$@" >>"$LOG" 2>&1; then
        printf '%d s\n' $((SECONDS - start))
    else
        printf 'failed\n'
        tail -n 20 "$LOG" >&2
        fail "$text: failed. The whole log is in $LOG"
    fi
}

# pin NAME: the requirement as setup.py pins it, such as torch==2.13.0
pin() {
    grep -oE "\"$1==[^\" ;]+" setup.py | head -n 1 | tr -d '"' | grep . || fail "setup.py does not pin $1"
}

# locked PATTERN [FILE]: the part of requirements.lock, or of FILE, whose package names match PATTERN.
locked() {
    awk -v names="^($1)==" '/^[a-z0-9]/ { keep = $0 ~ names } keep' "${2:-requirements.lock}"
}

# locked_except PATTERN [FILE]: the rest of it.
locked_except() {
    awk -v names="^($1)==" '/^[a-z0-9]/ { keep = $0 !~ names } keep' "${2:-requirements.lock}"
}

# make_venv REQUIREMENT...: make .venv if it is not there, and install uv and REQUIREMENT into it.
make_venv() {
    local python
    if ! "$PYTHON" -c '' 2>/dev/null; then
        python=$(find_python)
        logged "making .venv with $python" "$python" -m venv --clear .venv
    fi
    logged "installing $(pin uv)" "$PYTHON" -m pip install --disable-pip-version-check "$@"
    uv_settings
}

# uv does not read pip's settings. Give it the indexes, folders of wheels and certificates that pip would use.
uv_settings() {
    local config
    config=$("$PYTHON" -m pip config list)
    export UV_PYTHON="$PYTHON"
    # pip prefers no index to another. Versions and hashes are pinned, so this is safe.
    export UV_INDEX_STRATEGY=unsafe-best-match
    pass_to_uv PIP_INDEX_URL UV_DEFAULT_INDEX
    pass_to_uv PIP_EXTRA_INDEX_URL UV_INDEX
    pass_to_uv PIP_FIND_LINKS UV_FIND_LINKS
    pass_to_uv PIP_CERT SSL_CERT_FILE
}

# pass_to_uv PIP_OPTION VARIABLE: give VARIABLE the value of PIP_OPTION, or of the same option in pip's configuration
# files.
pass_to_uv() {
    local option value
    option=$(tr A-Z_ a-z- <<<"${1#PIP_}")
    value=${!1:-$(sed -nE "s/^(global|install)\.$option='(.*)'$/\2/p" <<<"$config" | tail -n 1)}
    value=${value//\\n/ }
    [ "$2" != UV_FIND_LINKS ] || value=${value// /,} # the one list that uv separates by commas
    [ -z "$value" ] || [ -n "${!2:-}" ] || export "$2=$value"
}

# configure_spark PYTHON: put our settings where spark-submit of PYTHON's pyspark reads them, so that a plain command
# shows the job's lines and not Spark's, and has our Java options.
configure_spark() {
    local home
    home=$("$1" -c 'import pyspark; print(*pyspark.__path__)')
    install -D -m 644 -t "$home/conf" conf/log4j2.properties conf/spark-defaults.conf
}

# Print the name of a Python that can make a virtual environment and compile extensions.
find_python() {
    local name
    for name in python3.11 python3.10; do
        "$name" -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || continue
        printf '%s\n' "$name"
        return
    done
    return 1
}
