#!/bin/bash
# Makes .venv with all that setup.py pins, and Horovod. Done once: a stamp in .venv says for which pins and scripts, and where.
. "$(dirname "$0")/lib.sh"

state=$(cat setup.py .make/{lib,system,environment,horovod,classes}.sh <(echo "$REPO") | sha256sum | cut -c1-16)
ready=".venv/.ready-$state"
[ ! -e "$ready" ] || exit 0

exec 9>build/.setup.lock
flock 9 # two makes at once: the second waits for the first, and has nothing left to do
[ ! -e "$ready" ] || exit 0
: >"$LOG"

printf 'Setting up .venv: 4 minutes, and 3 to 8 more where Horovod has to be built. Log: %s\n' "$LOG"
.make/system.sh
python=$(find_python)
"$PYTHON" -c '' 2>/dev/null || logged "making .venv with $python" "$python" -m venv --clear .venv

pip_install=("$PYTHON" -m pip install --disable-pip-version-check)
build_needs=("$(pin setuptools)" "$(pin wheel)" "$(pin packaging)" "$(pin cffi)" "$(pin numpy)")
logged "installing $(pin torch) and what Horovod's build needs" "${pip_install[@]}" "$(pin torch)" "${build_needs[@]}"
.make/horovod.sh
# --use-pep517: without it an old pip makes an egg link, which knows nothing of schemas/
logged "installing recsys_spark and its other requirements" \
    "${pip_install[@]}" --only-binary horovod --no-build-isolation --use-pep517 -e '.[horovod,tune,test,lint,package]'
.make/classes.sh

rm -f .venv/.ready-*
touch "$ready"
printf 'Ready.\n'
