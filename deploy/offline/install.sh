#!/usr/bin/env bash
# Installs Workmesh from this folder, without a network: ./install.sh [FOLDER], by default /opt/workmesh.
# Every wheel is checked against the hashes of requirements.lock, and workmesh's own against SHA256SUMS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-/opt/workmesh}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
(cd "$here" && sha256sum --quiet --check SHA256SUMS)
"$python" -m venv "$target"
pip=("$target/bin/python" -m pip --disable-pip-version-check install --quiet --no-index)
"${pip[@]}" --find-links "$here/wheels" --require-hashes --requirement "$here/requirements.lock"
"${pip[@]}" --no-deps "$here"/wheels/workmesh-*.whl
"$target/bin/workmesh" --version
