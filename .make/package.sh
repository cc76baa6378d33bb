#!/bin/bash
# What a cluster needs, into dist/: the wheel, and an archive of an environment that holds the wheel and all it stands on.
. "$(dirname "$0")/lib.sh"

env="$REPO/build/package-env"
archive="$REPO/dist/recsys_spark-env.tar.gz"
wheels="$REPO/.venv/.horovod"
# the very build that Horovod was compiled against
torch=$("$PYTHON" -c 'import torch; print(torch.__version__)')
mkdir -p dist

rm -rf dist/*.whl build/lib build/bdist.*
logged "building the wheel" "$PYTHON" -m build --wheel --no-isolation --outdir dist
wheel=$(ls dist/recsys_spark-*.whl)

rm -rf "$env"
logged "making an environment of its own" "$("$PYTHON" -c 'import sys; print(sys._base_executable)')" -m venv "$env"
logged "installing the wheel into it (2 minutes)" "$env/bin/python" -m pip install --disable-pip-version-check \
    --find-links "$wheels" --only-binary horovod "torch==$torch" "$(pin setuptools)" "$wheel[horovod]"
# a fixed order and time for each entry would not help: the archive holds compiled files that differ from machine to machine
logged "packing it (2 minutes)" "$PYTHON" -m venv_pack --force --prefix "$env" --output "$archive" --compress-level 1
chmod 644 "$archive"
rm -rf "$env"

printf '%s\n' "$wheel" "${archive#"$REPO/"}  $(du -h "$archive" | cut -f1)"
