#!/usr/bin/env bash
# One run on all workers of a Cloud TPU VM slice, from your own machine:
#   TPU=my-slice ZONE=us-east5-a bash scripts/tpu_vm.sh --config sft --config.model.path=DIR \
#       --config.data.train=FILE --config.output_dir=OUT
# The arguments are those of `jitune train`; --distributed and --resume are added, so that the same command again
# continues a run. Paths are those of the workers; OUT must be on storage that all of them see (Filestore, or a
# bucket mounted with gcsfuse). Needs gcloud, and a slice that is there:
#   gcloud compute tpus tpu-vm create my-slice --zone=us-east5-a --accelerator-type=v5p-16 --version=v2-alpha-tpuv5
set -euo pipefail
TPU=${TPU:?the name of the TPU VM}
ZONE=${ZONE:?its zone}
SOURCE=${SOURCE:-.}  # the checkout that is copied to the workers
PYTHON=${PYTHON:-python3}  # of the workers, 3.11 or newer

everywhere=(--zone="$ZONE" --worker=all)
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git -C "$SOURCE" archive --format=tar.gz -o "$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$TPU:jitune.tar.gz" "${everywhere[@]}"

# One command for every worker: the words are quoted once more, for the shell at the other end.
install='rm -rf ~/jitune && mkdir ~/jitune && tar -xzf ~/jitune.tar.gz -C ~/jitune && cd ~/jitune'
install+=" && { [ -x ~/venv/bin/python ] || $PYTHON -m venv ~/venv; } && ~/venv/bin/pip install --quiet '.[tpu]'"
train="exec ~/venv/bin/jitune train --distributed --resume$(printf ' %q' "$@")"
gcloud compute tpus tpu-vm ssh "$TPU" "${everywhere[@]}" --command="$install && $train"
