#!/bin/bash
# Puts Horovod into .venv: builds its source release against the torch that is there, or takes the wheel of an
# earlier build from the user's cache.
. "$(dirname "$0")/lib.sh"

patch_source() {
    # torch 2.13's headers are C++20; the release asks for 14.
    sed -i 's/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD 20)/' CMakeLists.txt horovod/torch/CMakeLists.txt
    [ "$(cat CMakeLists.txt horovod/torch/CMakeLists.txt | grep -c 'CMAKE_CXX_STANDARD 20')" = 2 ] || return
    wake_on_tensors || return
    # A CUDA build of torch beside no nvcc, or half a toolkit: the CPU operations alone.
    [ "$backend" = nccl ] || sed -i 's/(CUDA_HOME is not None)/False/' cmake/Modules/FindPytorch.cmake
}

# Horovod's thread that talks to the other ranks sleeps until a cycle ends, 1 ms by default: a tensor waits for half of it on average, and the talks take time from
# the arithmetic. With this a tensor wakes it, and it does not sleep while one waits for the other ranks; so it need not talk but every 25 ms while
# this rank has nothing to say. (Process sets but the one of all ranks do not wake it; nobody here makes any.) The wheel's version tells of it.
wake_on_tensors() {
    local common=horovod/common
    sed -i 's/^#include <mutex>$/#include <chrono>\n#include <condition_variable>\n&/
        s/^  Status AddToTensorQueue(.*/  void WaitForTensor(std::chrono::steady_clock::duration at_most) {\
    std::unique_lock<std::mutex> lock(mutex_);\
    added_.wait_for(lock, at_most, [this] { return !tensor_table_.empty(); });\
  }\
&/
        s/^  mutable std::mutex mutex_;$/&\n  std::condition_variable added_;/' $common/tensor_queue.h
    sed -i '/TensorQueue::AddToTensorQueue/,/^}/ s/  return Status::OK();/  added_.notify_one();\n&/' $common/tensor_queue.cc
    sed -i 's/std::this_thread::sleep_for(sleep_duration);/state.process_set_table.Get(0).tensor_queue.WaitForTensor(sleep_duration);/
        s/SetCycleTimeMs(1);/SetCycleTimeMs(25);/' $common/operations.cc
    [ "$(cat $common/{tensor_queue.{h,cc},operations.cc} | grep -c 'added_\|WaitForTensor\|CycleTimeMs(25)')" = 7 ]
}

build() ( # a subshell: neither the folder nor the variables outlive it
    cd "$1" || exit
    "$PYTHON" -m pip download --no-deps --no-build-isolation --no-binary horovod "$requirement" || exit
    tar -xzf horovod-*.tar.gz --strip-components=1 && patch_source || exit

    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
    export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
    export HOROVOD_LOCAL_VERSION=wake
    export MAKEFLAGS="-j$(nproc)"           # else make's own, which would build one file at a time
    export CMAKE_POLICY_VERSION_MINIMUM=3.5 # CMake 4 refuses the age that the bundled gloo declares
    export CXXFLAGS="-include cstdint"      # the bundled gloo forgets it, GCC 13 no longer forgives that
    if [ "$backend" = nccl ]; then
        # nvcc's own word, for the nvcc on the path may be a link or a wrapper that lives elsewhere
        CUDA_HOME=$(realpath "$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#$ TOP=//p')") || exit
        export CUDA_HOME CUDAToolkit_ROOT="$CUDA_HOME" HOROVOD_CUDA_HOME="$CUDA_HOME"
        export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_LINK=SHARED
        if [ -e "$nccl/include/nccl.h" ]; then # the one that torch itself loads; its folder has no plain libnccl.so
            ln -s "$nccl/lib/libnccl.so.2" libnccl.so
            export HOROVOD_NCCL_INCLUDE="$nccl/include" HOROVOD_NCCL_LIB="$PWD"
        fi
    fi
    "$PYTHON" -m pip wheel --no-deps --no-build-isolation -w wheel .
)

requirement=$(pin horovod)
read -r version torch cuda nccl < <("$PYTHON" -c '
import platform, sysconfig, torch
print(platform.python_version(), torch.__version__, torch.version.cuda, sysconfig.get_path("purelib") + "/nvidia/nccl")')
backend=cpu
[ "$cuda" = None ] || ! command -v nvcc >/dev/null || backend=nccl
key="torch$torch-python${version%.*}-$(uname -m)-$backend-$( (echo "$requirement"; declare -f patch_source wake_on_tensors build) | sha256sum | cut -c1-12)"
cached="$CACHE/horovod/$key"

if ! compgen -G "$cached/*.whl" >/dev/null; then
    mkdir -p "$CACHE/horovod"
    work=$(mktemp -d "$CACHE/horovod/.build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    logged "building $requirement for torch $torch on $backend (3 to 8 minutes on two cores, once)" build "$work"
    mv -T "$work/wheel" "$cached" 2>/dev/null || compgen -G "$cached/*.whl" >/dev/null || fail "cannot write $cached"
fi
logged "installing $requirement" "$PYTHON" -m pip install --no-deps --no-index --force-reinstall "$cached"/*.whl
ln -sfn "$cached" "$REPO/.venv/.horovod" # where .make/package.sh finds it
