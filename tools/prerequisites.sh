#!/bin/sh
# tools/prerequisites.sh [--packages] PYTHON: is there what it takes to make an environment and to compile the core?
# Silent and 0 if so. Else it says what is missing, ends with the command that installs it, and returns 1. With --packages
# it only prints the names of the Debian packages, for scripts.
# tools/prerequisites.sh --servers: the Debian packages of what tests run beside ours, and skip without.
set -u
if [ "$1" = --servers ]; then
    # Other people's packages of node bring npm along, and Debian's does not go with them.
    npm=$(command -v npm >/dev/null || echo npm)
    echo chromium curl iproute2 iptables squid tinyproxy-bin nginx haproxy apache2-bin varnish redis-server $npm
    exit 0
fi
only_packages=
[ "$1" = --packages ] && only_packages=1 && shift
python=$1
packages=

say() { [ -n "$only_packages" ] || echo "imcore: $*" >&2; }
lacks() { packages="$packages $1"; shift; say "$*"; }

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
case $version in
"")
    lacks "python3 python3-venv python3-dev" "there is no working $python"
    ;;
[0-2].* | 3.[0-9] | 3.10)
    say "$python is Python $version, and imcore needs 3.11 or newer. Name another one: make demo PYTHON=python3.12"
    exit 1
    ;;
*)
    # Debian names the packages of its own Python without the minor number, those of any other one with it.
    debian=python$version
    [ "$(command -v "$python")" -ef /usr/bin/python3 ] && debian=python3
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        lacks "$debian-venv" "$python can't make virtual environments: its modules venv and ensurepip are missing"
    [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        lacks "$debian-dev" "the C headers of $python are missing (Python.h)"
    compiler=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
    ;;
esac

# Unquoted: CC may carry flags.
printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' |
    ${compiler:-cc} -x c -c -o /dev/null - 2>/dev/null ||
    lacks "gcc libc6-dev" "there is no working C compiler (tried: ${compiler:-cc})"

[ -z "$packages" ] && exit 0
if [ -n "$only_packages" ]; then
    echo "$packages"
elif [ "$(uname)" = Darwin ]; then
    say "install the compiler with: xcode-select --install"
elif [ "$(id -u)" = 0 ]; then
    say "install it with: apt-get install$packages"
else
    say "install it with: sudo apt-get install$packages"
fi
exit 1
