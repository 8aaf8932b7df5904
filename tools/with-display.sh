#!/usr/bin/env bash
# Runs a command with a display: a virtual one on Linux, the system's own elsewhere.
#
#   tools/with-display.sh COMMAND ...
#
# Qt's `offscreen` platform is no substitute, because napari's canvas needs OpenGL.
set -euo pipefail

if [[ $(uname -s) != Linux ]]; then exec "$@"; fi
if command -v xvfb-run >/dev/null; then
    exec env -u WAYLAND_DISPLAY xvfb-run -a -s "-screen 0 1280x1024x24" "$@"
fi
if [[ -n ${DISPLAY:-} ]]; then exec "$@"; fi
echo "There is neither a display nor xvfb-run. Install xvfb (Debian, Ubuntu: sudo apt-get install xvfb xauth)." >&2
exit 1
