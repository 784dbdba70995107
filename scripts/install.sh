# Sourced by the scripts beside it: makes the virtual environment $venv with jitune and the extras $1 in it.
# Nothing is installed where pyproject.toml is as it was. PYTHON and VENV choose another Python and place.
venv=${VENV:-.venv}
install() {
  local extras=$1 python=${PYTHON:-} candidate
  local stamp="$venv/installed-${extras:-core}"
  if [ -z "$python" ]; then
    for candidate in python3 python python3.13 python3.12 python3.11; do
      if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
    done
  fi
  [ -n "$python" ] || { echo "Python 3.11 or newer is needed" >&2; exit 2; }
  local stamps=("$stamp")
  [ -n "$extras" ] || stamps=("$venv"/installed-*)  # whatever the extras, the core came with them
  for candidate in "${stamps[@]}"; do
    cmp -s pyproject.toml "$candidate" && return
  done
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  echo "installing into $venv (only the first time)" >&2
  # Modules are compiled when they are first imported: most of them never are, and it is most of an installation's work.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -e ".${extras:+[$extras]}"
  cp pyproject.toml "$stamp"
}
