#!/usr/bin/env bash
# Brings the virtual environment up to what one make target needs; called by the Makefile only when its stamp is missing.
#
#   tools/environment.sh VENV KIND STAMP      KIND: base, or a dependency group of pyproject.toml; pyside6 goes into
#                                             the folder VENV/pyside6, which only those see who put it on their path
#
# The environment may be there already, made by hand or for another target: it is completed, never replaced.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 kind=$2 stamp=$3

say() { printf '[setup] %s\n' "$*" >&2; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
        if [[ -n ${PYTHON:-} ]]; then break; fi
    done
    say "Python 3.11 or newer is needed; '${PYTHON:-python3}' is $("${PYTHON:-python3}" --version 2>/dev/null || echo missing)."
    say "Install one, or name it: make PYTHON=/path/to/python3.12 ..."
    return 1
}

if ! new_enough "$venv/bin/python"; then
    if [[ -e $venv/bin/python ]]; then say "$venv has an old or broken Python: making it anew"; fi
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        tools/system-packages.sh "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    "$python" -m venv --clear "$venv"
fi
python=$venv/bin/python
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --default-pip >/dev/null

if [[ $kind == test ]]; then tools/system-packages.sh display; fi

# Dependency groups came with pip 25.1.
if ! "$python" -c 'import sys, pip; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))'; then
    "$python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
fi

pip_install=("$python" -m pip install --quiet --disable-pip-version-check)
if [[ $kind == pyside6 ]]; then
    say "Installing PySide6 into $venv/$kind"
    rm -rf "${venv:?}/$kind"
    "${pip_install[@]}" --target "$venv/$kind" --group "$kind"
else
    # One run for all: torchvision works only with the torch of its own release, and the resolver sees both here.
    say "Installing for '$kind' into $venv (the first time it fetches torch: some gigabytes and minutes)"
    groups=()
    if [[ $kind != base ]]; then groups=(--group "$kind"); fi
    "${pip_install[@]}" --editable . ${groups[@]+"${groups[@]}"}
fi

mkdir -p "$(dirname "$stamp")"
rm -f "$(dirname "$stamp")/$kind"-*
touch "$stamp"
