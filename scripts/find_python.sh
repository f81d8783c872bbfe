#!/bin/sh
# Print the first Python of at least 3.11 on PATH that can make virtual environments.
# $PYTHON, if set, is the only one that is tried.
set -u

tried=""
no_venv=""
for name in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    path=$(command -v "$name" 2>/dev/null) || continue
    version=$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if ! "$path" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))'; then
        tried="$tried  $path is Python $version
"
    elif ! "$path" -c 'import venv, ensurepip' 2>/dev/null; then
        no_venv="$no_venv  $path is Python $version, but lacks venv or ensurepip
"
    else
        echo "$path"
        exit 0
    fi
done

{
    if [ -n "$no_venv" ]; then
        echo "showtell: this Python cannot make virtual environments:"
        printf '%s' "$no_venv"
        echo "Install its venv package (on Debian and Ubuntu: apt install python3-venv), then run make again."
    elif [ -n "$tried" ]; then
        echo "showtell: Python 3.11 or newer is needed, and only older ones were found:"
        printf '%s' "$tried"
        echo "Install Python 3.11, 3.12 or 3.13 and run make again; one that is not on PATH can be named:"
        echo "  make demo PYTHON=/path/to/python3.11"
    else
        echo "showtell: no Python was found (tried ${PYTHON:-python3.11, python3.12, python3.13, python3, python})."
        echo "Install Python 3.11, 3.12 or 3.13 and run make again; one that is not on PATH can be named:"
        echo "  make demo PYTHON=/path/to/python3.11"
    fi
} >&2
exit 1
