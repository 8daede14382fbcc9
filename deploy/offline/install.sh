#!/usr/bin/env bash
# Installs Workmesh from this folder, without a network: ./install.sh [FOLDER], by default /opt/workmesh.
# The wheels were made under the hashes of requirements.lock; here they are held against SHA256SUMS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-/opt/workmesh}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed" >&2; exit 1; }
(cd "$here" && sha256sum --quiet --check SHA256SUMS)
"$python" -m venv "$target"
"$target/bin/python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps "$here"/wheels/*.whl
"$target/bin/workmesh" --version
