#!/usr/bin/env bash
# Runs the tests on a fresh clone with nothing but Python >= 3.11: makes .venv, installs, runs.
# A second run installs nothing. Arguments go to pytest:
#   PYTHON=python3.12 VENV=.venv-3.12 bash scripts/test.sh -m core
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install "${EXTRAS:-test}"
exec "$venv/bin/python" -m pytest -n "${WORKERS:-2}" "$@"
