#!/usr/bin/env bash
# Runs the tests on a fresh clone with nothing but Python >= 3.11: makes .venv, installs, runs.
# A second run installs nothing. Arguments go to pytest, which then runs once:
#   PYTHON=python3.12 VENV=.venv-3.12 bash scripts/test.sh -m core
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install "${EXTRAS:-test}"
# Each worker takes a half of the files and helps the other at the end, so that what tests of a file share is made once.
pytest=("$venv/bin/python" -m pytest -n "${WORKERS:-2}" --dist worksteal)
if [ $# = 0 ]; then
  # In parts: every compiled program maps memory of its own, and Linux allows a process 65,530 maps.
  first=(tests/construct tests/data tests/evals)
  second=(tests/generation tests/generators tests/hub tests/models tests/serve)
  failed=0
  "${pytest[@]}" "${first[@]}" || failed=$?
  "${pytest[@]}" "${second[@]}" || failed=$?
  "${pytest[@]}" tests "${first[@]/#/--ignore=}" "${second[@]/#/--ignore=}" || failed=$?
  exit "$failed"
fi
exec "${pytest[@]}" "$@"
