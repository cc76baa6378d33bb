#!/bin/bash
# Makes .venv with everything that setup.py pins. A stamp in .venv records which pins and scripts it was made from, and
# where.
. "$(dirname "$0")/lib.sh"

state=$(
    cat setup.py requirements.lock conf/{log4j2.properties,spark-defaults.conf} .make/{lib,system,environment,horovod}.sh .make/horovod.patch \
        <(echo "$REPO") | sha256sum | cut -c1-16
)
ready=".venv/.ready-$state"
[ ! -e "$ready" ] || exit 0

exec 9>build/.setup.lock
flock 9 # of two makes at once the second waits for the first and then finds the stamp
[ ! -e "$ready" ] || exit 0
: >"$LOG"

printf 'Setting up .venv: 1 minute, torch, and 3 to 8 minutes if Horovod has to be built. Log: %s\n' "$LOG"
.make/system.sh
locked 'uv|setuptools|wheel' >build/bootstrap.txt
make_venv --require-hashes -r build/bootstrap.txt
# torch and Horovod have steps of their own: their builds differ from machine to machine
locked_except horovod >build/requirements.txt
logged "installing requirements.lock" \
    .venv/bin/uv pip install --require-hashes --no-build-isolation -r build/requirements.txt
logged "installing $(pin torch)" .venv/bin/uv pip install "$(pin torch)" --constraint build/requirements.txt
.make/horovod.sh
logged "installing recsys_spark" .venv/bin/uv pip install --no-deps --no-build-isolation --editable .
configure_spark "$PYTHON"

rm -f .venv/.ready-*
touch "$ready"
printf 'Ready.\n'
