#!/usr/bin/env bash
# The quickstart on a fresh clone with nothing but Python >= 3.11: makes .venv, installs, then makes a tiny model, tunes
# it and measures what that changed, without network and in minutes. Arguments go to `jitune quickstart`:
#   bash scripts/quickstart.sh --out runs/quickstart --overwrite
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install ""
exec "$venv/bin/jitune" quickstart "$@"
