#!/bin/bash
# Builds what a cluster needs into dist/: the wheel, and an archive of an environment with the wheel and its
# requirements.
. "$(dirname "$0")/lib.sh"

env="$REPO/build/package-env"
archive="$REPO/dist/recsys_spark-env.tar.gz"
# Horovod was compiled against this build of torch
torch=$("$PYTHON" -c 'import torch; print(torch.__version__)')
mkdir -p dist

rm -rf dist/*.whl build/lib build/bdist.*
logged "building the wheel" "$PYTHON" -m build --wheel --no-isolation --outdir dist
wheel=$(ls dist/recsys_spark-*.whl)

rm -rf "$env"
logged "making an environment" "$("$PYTHON" -c 'import sys; print(sys._base_executable)')" -m venv "$env"
uv_settings
locked_except horovod >build/requirements.txt
# copies, because the archive must not hold links into uv's cache
logged "installing the wheel into it" .venv/bin/uv pip install --python "$env/bin/python" --link-mode copy \
    --compile-bytecode --constraint build/requirements.txt "torch==$torch" "$(pin setuptools)" "$wheel[horovod]" .venv/.horovod/*.whl
configure_spark "$env/bin/python"
# a fixed order and time of the entries would not make builds equal, because compiled files differ from machine to
# machine
logged "packing it (2 minutes)" "$PYTHON" -m venv_pack --force --prefix "$env" --output "$archive" --compress-level 1
chmod 644 "$archive"
rm -rf "$env"

printf '%s\n' "$wheel" "${archive#"$REPO/"}  $(du -h "$archive" | cut -f1)"
