"""Evol-Instruct, Magpie and back-translation through the runner and their recipes: kills, budgets, what is paid for."""

import json
import re

import pytest

from jitune import recipes
from jitune.construct.distill import config as configs
from jitune.construct.distill.run import distill
from jitune.data.record_rows import to_line
from jitune.generators.call import Call, Lost, key
from jitune.generators.replay import Replay
from tests.construct.distill.teachers import ask_record
from tests.construct.distill.test_backtranslate import DOCUMENTS

TEXTS = ["--config.magpie.pre_query=<u>", "--config.magpie.post_query=</u><a>", "--config.magpie.stops=</u>"]


def says(call: Call) -> str:
    """A teacher for all three."""
    text = call.prompt if isinstance(call.prompt, str) else call.prompt[-1][1]
    if "Equal or Not Equal" in text:
        return "Equal" if sum(text.encode()) % 4 == 0 else "Not Equal"
    if "'Quality: '" in text:
        return "Quality: good"
    if "'Score: '" in text:
        return f"Score: {5 - len(text) % 2}"
    given = re.search(r"#Given Prompt#:\n(.*?)\n\n#\w+ Prompt#:|<text>\n(.*?)\n</text>", text, re.DOTALL)
    if given:
        return f"{given[1]} Say why." if given[1] else f"What of {given[2][:10]} and {given[2][-10:]}?"
    return f"Who was the king number {call.seed}?" if text.endswith("<u>") else f"So it is: {len(text)}."


class Dies(Exception):
    pass


class Paid(Replay):
    """Answers each call once; asked again it tells from its notes, as a generator with a cache does."""

    def __init__(self, most: int | None = None, notes: dict | None = None, dies: bool = False):
        super().__init__(says)
        self.notes, self.most, self.dies, self.calls = {} if notes is None else notes, most, dies, 0

    def answer(self, calls, on_done=None):
        found = []
        for call in calls:
            name = key(self.identity, call)
            if name not in self.notes:
                if self.most is not None and self.calls >= self.most:
                    if self.dies:
                        raise Dies
                    found.append(Lost("budget"))
                    continue
                self.calls += 1
                [self.notes[name]] = super().answer([call])
            found.append(self.notes[name])
        return found


def settings(tmp_path, method: str, out: str):
    records = DOCUMENTS if method == "backtranslate" else [ask_record(f"Name king {i}.", i) for i in range(5)]
    (tmp_path / "in.jsonl").write_bytes(b"".join(map(to_line, records)))
    words = [f"--config.{method}.step=2", f"--config.output_dir={tmp_path / out}"]
    words += [*TEXTS, "--config.magpie.count=9"] if method == "magpie" else [f"--config.input={tmp_path / 'in.jsonl'}"]
    return configs.from_words(str(recipes.find(method, "data distill")), words)


def written(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("kept.jsonl", "rejected.jsonl")]


@pytest.mark.parametrize("method", ["evol_instruct", "magpie", "backtranslate"])
def test_killed_or_out_of_budget_it_ends_alike_and_pays_once(method, tmp_path):
    whole = Paid()
    folder = distill(settings(tmp_path, method, "whole"), teacher=whole)
    rows = [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]
    assert len(rows) >= 2 and {row["provenance"]["method"] for row in rows} == {method}
    for dies in (True, False):
        notes, paid, out = {}, 0, f"dies_{dies}"
        for most in (3, 1, 7, 5, None):
            teacher = Paid(most, notes, dies)
            try:
                distill(settings(tmp_path, method, out), teacher=teacher)
            except Dies:
                assert dies
            paid += teacher.calls
        assert paid == whole.calls == len(notes)
        assert written(tmp_path / out) == written(folder)


def test_the_defaults_are_those_that_the_recipes_say():
    for method in ("evol_instruct", "magpie", "backtranslate"):
        recipe = configs.from_words(str(recipes.find(method, "data distill")), [])
        assert recipe[method].to_dict() == configs.defaults()[method].to_dict()
