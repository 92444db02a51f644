#!/usr/bin/env bash
# Installs what the browser tests of the page need, where Debian's packages can be installed without a password, and
# says so where they cannot. It never fails: those tests are then skipped.
set -u
if { command -v chromium && command -v chromedriver; } >/dev/null; then
    exit 0
fi
apt() { DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq "$@" </dev/null >/dev/null 2>&1; }
if [ "$(id -u)" != 0 ]; then
    reason="only root may install them"
elif ! command -v apt-get >/dev/null; then
    reason="there is no apt-get"
elif apt update && apt install --no-install-recommends chromium chromium-driver; then
    exit 0
else
    reason="apt-get failed"
fi
echo "chromium and chromium-driver are not installed ($reason); the page is not tested in a browser." >&2
