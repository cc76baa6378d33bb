#!/bin/bash
# Writes requirements.lock: a version and hashes for each package that setup.py needs, for every Python that it allows.
# Versions that are already locked stay unless setup.py excludes them; `make lock UPGRADE=1` takes the newest.
. "$(dirname "$0")/lib.sh"

make_venv "$(pin uv)"
new=build/requirements.lock
cp requirements.lock "$new" 2>/dev/null || rm -f "$new"
logged "resolving the requirements of setup.py" .venv/bin/uv pip compile setup.py --all-extras --universal \
    --python-version 3.10 --generate-hashes --no-annotate --no-header ${UPGRADE:+--upgrade} --output-file "$new"
# torch and its CUDA libraries come from another index where a machine has no GPU, and with other hashes
{
    echo "# Written by \`make lock\` from setup.py. Without torch, whose CPU and CUDA builds have different hashes."
    locked_except 'torch|triton|nvidia-.*|cuda-.*' "$new"
} >requirements.lock
