#!/bin/bash
# Installs Horovod into .venv. Builds the released source with horovod.patch against the torch that is installed, or
# takes the wheel of an earlier build from the user's cache.
. "$(dirname "$0")/lib.sh"

build() ( # a subshell: neither the folder nor the variables outlive it
    cd "$1" || exit
    "$PYTHON" -m pip download --no-deps --no-build-isolation --no-binary horovod \
        --require-hashes -r requirements.txt || exit
    tar -xzf horovod-*.tar.gz --strip-components=1 && patch -p1 <"$REPO/.make/horovod.patch" || exit

    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
    export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
    export MAKEFLAGS="-j$(nproc)"           # make's default is one file at a time
    export CMAKE_POLICY_VERSION_MINIMUM=3.5 # CMake 4 refuses the version that the bundled gloo asks for
    export CXXFLAGS="-include cstdint"      # the bundled gloo does not include it, and GCC 13 requires it
    if [ "$backend" = nccl ]; then
        # ask nvcc itself, because the nvcc on the path may be a link or a wrapper
        CUDA_HOME=$(realpath "$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#$ TOP=//p')") || exit
        export CUDA_HOME CUDAToolkit_ROOT="$CUDA_HOME" HOROVOD_CUDA_HOME="$CUDA_HOME"
        export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_LINK=SHARED
        if [ -e "$nccl/include/nccl.h" ]; then # the NCCL that torch loads. Its folder has no plain libnccl.so
            ln -s "$nccl/lib/libnccl.so.2" libnccl.so
            export HOROVOD_NCCL_INCLUDE="$nccl/include" HOROVOD_NCCL_LIB="$PWD"
        fi
    fi
    "$PYTHON" -m pip wheel --no-deps --no-build-isolation -w wheel .
)

requirement=$(pin horovod)
read -r version torch cuda nccl < <("$PYTHON" -c '
import platform, sysconfig, torch
nccl = sysconfig.get_path("purelib") + "/nvidia/nccl"
print(platform.python_version(), torch.__version__, torch.version.cuda, nccl)')
backend=cpu
[ "$cuda" = None ] || ! command -v nvcc >/dev/null || backend=nccl
recipe=$( (locked horovod; cat .make/horovod.patch; declare -f build) | sha256sum | cut -c1-12)
key="torch$torch-python${version%.*}-$(uname -m)-$backend-$recipe"
cached="$CACHE/horovod/$key"

if ! compgen -G "$cached/*.whl" >/dev/null; then
    mkdir -p "$CACHE/horovod"
    work=$(mktemp -d "$CACHE/horovod/.build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    locked horovod >"$work/requirements.txt"
    logged "building $requirement for torch $torch on $backend (3 to 8 minutes on two cores, once)" build "$work"
    mv -T "$work/wheel" "$cached" 2>/dev/null || compgen -G "$cached/*.whl" >/dev/null || fail "cannot write $cached"
fi
logged "installing $requirement" "$PYTHON" -m pip install --no-deps --no-index --force-reinstall "$cached"/*.whl
ln -sfn "$cached" "$REPO/.venv/.horovod" # .make/package.sh takes the wheel from here
