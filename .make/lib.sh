# Sourced by the scripts beside it: where things are, and how a script speaks.
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

# logged TEXT COMMAND...: says TEXT, runs COMMAND into the log, and shows the log's end if it fails.
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
        fail "$text: failed; the whole log is in $LOG"
    fi
}

# pin NAME: the requirement as setup.py pins it, such as torch==2.13.0
pin() {
    grep -oE "\"$1==[^\" ;]+" setup.py | head -n 1 | tr -d '"' | grep . || fail "setup.py pins no $1"
}

# A Python that can make a virtual environment and compile against itself.
find_python() {
    local name
    for name in python3.11 python3.10; do
        if "$name" -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}
