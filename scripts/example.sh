#!/usr/bin/env bash
# The whole line on a fresh clone with nothing but Python >= 3.11, without the hub: a tiny model is made, shown its
# data, tuned, and asked. See configs/example.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/install.sh
install ""
jitune="$venv/bin/jitune"
data=configs/example.jsonl
run() { printf '\n$ jitune %s\n' "$*"; "$jitune" "$@"; }

[ -d runs/model ] || run init --family qwen3 --preset tiny --tokenizer-from "$data" --out runs/model
run data show "$data" --model runs/model --start 20 --count 1
run train --config configs/example.py --resume
run generate --model runs/example/final --prompt "What is the capital of Peru?"
printf '\nThe tuned model is in runs/example/final. Now with data of your own:\n'
printf '  %s train --config configs/sft.py --config.model.path=DIR --config.data.train=FILE --config.output_dir=OUT\n' "$jitune"
