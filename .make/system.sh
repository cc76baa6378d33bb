#!/bin/bash
# Checks for the programs that pip cannot install. Missing ones are installed with apt if root or a passwordless sudo
# allows it. Otherwise this prints the command that installs them, and fails.
. "$(dirname "$0")/lib.sh"

java_version() {
    "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p'
}

has_java() { # Spark 4.0 runs on 17 and 21. Java 24 removed the security manager, which Spark's Hadoop calls
    local version
    version=$(java_version) && [ "${version:-0}" -ge 17 ] && [ "$version" -lt 24 ]
}

missing() {
    find_python >/dev/null || echo "Python 3.10 or 3.11 with its venv module and headers"
    has_java || echo "Java 17 or 21 (if it is installed, set JAVA_HOME to its folder)"
    command -v "${CXX:-c++}" >/dev/null || echo "C++ compiler"
    command -v cmake >/dev/null || echo "cmake"
    command -v make >/dev/null || echo "make"
    command -v patch >/dev/null || echo "patch"
}

# Print the first of these packages that the system's repositories have.
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
    command -v patch >/dev/null || echo "patch"
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0
printf '  missing: %s\n' "${lacking//$'\n'/, }"
command -v apt-get >/dev/null || fail "install these with the package manager of this system, then try again"

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
install() { echo "${sudo:+$sudo }apt-get install -y --no-install-recommends $(echo $(packages))"; }
[ -z "$sudo" ] || sudo -n true 2>/dev/null || fail "no permission to install them. Run:  sudo apt-get update && $(install)"

export DEBIAN_FRONTEND=noninteractive
logged "apt-get update" $sudo apt-get update
command=$(install)
logged "$command" $command
lacking=$(missing)
[ -z "$lacking" ] || fail "still missing after '$command': ${lacking//$'\n'/, }"
