#!/usr/bin/env bash
# Installs Debian or Ubuntu packages that are missing, where that is allowed; says what to do where it is not.
#
#   tools/system-packages.sh display          what Qt and napari's OpenGL canvas need on a machine without a screen
#   tools/system-packages.sh PACKAGE ...      packages by name
#
# Other systems: nothing is installed. macOS and Windows bring what Qt needs; elsewhere a hint is printed.
set -euo pipefail

say() { printf '[setup] %s\n' "$*" >&2; }

display=(
    xvfb xauth libgl1 libegl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0
    libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0
)
if [[ $* == display ]]; then wanted=("${display[@]}"); else wanted=("$@"); fi

if [[ $(uname -s) != Linux ]]; then exit 0; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "Not Debian or Ubuntu: make sure that your system has what these packages bring there: ${wanted[*]}"
    exit 0
fi

# A package may be there under another name that provides it (libglib2.0-0t64 on newer systems).
present=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}, ${Provides}\n' |
    sed -n 's/^installed //p' | tr ',' '\n' | sed 's/^ *//; s/ .*//')
missing=()
for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$present" || missing+=("$package")
done
if [[ ${#missing[@]} == 0 ]]; then exit 0; fi

as_root=()
if [[ $(id -u) != 0 ]]; then
    if ! sudo -n true 2>/dev/null </dev/null; then
        say "These system packages are missing and may not be installed from here: ${missing[*]}"
        say "Have them installed, then run make again:"
        say "    sudo apt-get install --no-install-recommends ${missing[*]}"
        exit 1
    fi
    as_root=(sudo -n)
fi

say "Installing system packages: ${missing[*]}"
apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    say "apt-get could not install ${missing[*]}; its report is above."
    exit 1
fi
