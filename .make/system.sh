#!/bin/bash
# Looks for what pip cannot install. What is missing is installed with apt where root or a passwordless sudo allows it;
# otherwise the command that would do it is printed, and this fails.
. "$(dirname "$0")/lib.sh"

java_version() {
    "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p'
}

has_java() { # Spark 4.0 runs on 17 and 21; Java 24 took away what its Hadoop calls
    local version
    version=$(java_version) && [ "${version:-0}" -ge 17 ] && [ "$version" -lt 24 ]
}

missing() {
    find_python >/dev/null || echo "Python 3.10 or 3.11 with its venv module and headers"
    has_java || echo "Java 17 or 21 (if it is installed, let JAVA_HOME point to it)"
    command -v "${CXX:-c++}" >/dev/null || echo "C++ compiler"
    command -v cmake >/dev/null || echo "cmake"
    command -v make >/dev/null || echo "make"
}

# The first of the packages that this release of the system has.
available() {
    local name
    for name in "$@"; do
        [ -z "$(apt-cache madison "$name" 2>/dev/null)" ] || break
    done
    echo "$name"
}

packages() {
    local python
    if ! find_python >/dev/null; then
        python=$(available python3.11 python3.10)
        echo "$python $python-venv $python-dev"
    fi
    has_java || available openjdk-21-jre-headless openjdk-17-jre-headless
    command -v "${CXX:-c++}" >/dev/null || echo "g++"
    command -v cmake >/dev/null || echo "cmake"
    command -v make >/dev/null || echo "make"
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0
printf '  missing: %s\n' "${lacking//$'\n'/, }"
command -v apt-get >/dev/null || fail "install these with this system's package manager, then try again"

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
install() { echo "${sudo:+$sudo }apt-get install -y --no-install-recommends $(echo $(packages))"; }
[ -z "$sudo" ] || sudo -n true 2>/dev/null || fail "not allowed to install them; run:  sudo apt-get update && $(install)"

export DEBIAN_FRONTEND=noninteractive
logged "apt-get update" $sudo apt-get update
command=$(install)
logged "$command" $command
lacking=$(missing)
[ -z "$lacking" ] || fail "still missing after '$command': ${lacking//$'\n'/, }"
