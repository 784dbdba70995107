"""A verifier of your own: an answer is right if it is JSON with the keys that its problem asks for.

    python scripts/examples/own_verifier.py

checks four answers, and asks a verifier that never comes to an end. The same for self-improvement, from the
folder of this file; problems are rows of jitune's records with `{"meta": {"keys": ["name", "age"]}}`:

    jitune improve --config improve --config.verifier.name=own_verifier:verify --config.verifier.options=strict=true \\
        --config.method=rest_em --config.model.path=DIR --config.prompts=problems.jsonl --config.output_dir=OUT

A verifier is a function of a record and a text; options are its keyword arguments. It runs in processes of its own with
a time limit, so it lies in a module.
"""

import json
import time

from jitune.construct.verify.table import open_verifier
from jitune.construct.verify.verifier import Checked
from jitune.data.record import Record


def verify(record, text, *, strict=False):
    """strict: no other keys. None, in place of True or False, is for what cannot be judged."""
    wanted = set(record.meta.get("keys", ()))
    if not wanted:
        return Checked(None, "the problem names no keys")
    try:
        found = json.loads(text)
    except ValueError:
        return Checked(False, "no JSON")
    if not isinstance(found, dict) or not wanted <= set(found):
        return Checked(False, "a key is missing")
    more = sorted(set(found) - wanted)
    return Checked(not (strict and more), f"more keys: {', '.join(more)}" if strict and more else "")


def hang(record, text):
    """What a bad verifier does."""
    time.sleep(3600)


def main():
    problem = Record("ann", ({"role": "user", "content": "Who is Ann? Answer as JSON."},),
                     meta={"keys": ["name", "age"]})
    answers = ['{"name": "Ann", "age": 7}', '{"name": "Ann"}', "Ann is 7.", '{"name": "Ann", "age": 7, "pet": "cat"}']
    with open_verifier("own_verifier:verify", strict=True) as check:
        for text, found in zip(answers, check.check_all([(problem, text) for text in answers]), strict=True):
            print(f"{text}: {found.right}{f', {found.detail}' if found.detail else ''}")
    with open_verifier("own_verifier:hang", time_limit=1.0) as check:
        print(f"hang: {check(problem, answers[0])}")


if __name__ == "__main__":
    main()
