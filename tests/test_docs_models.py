"""What the pages on distillation, preferences and self-improvement name is in the code: options with their defaults,
methods, reasons, limits, commands, snippets."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

from jitune import cli, config
from jitune.construct.curate import config as curate
from jitune.construct.distill import config as distill
from jitune.construct.distill import table as distilling
from jitune.construct.improve import config as improve
from jitune.construct.improve import methods, stopping
from jitune.construct.verify import table as verifiers
from jitune.data.preferences import READERS as PREFERENCES
from jitune.data.record import Record
from jitune.generators import open as generators
from jitune.options import CHOICES, USED_BY
from tests.conftest import ROOT
from tests.test_docs import PAGES, page

# The commands that take a config: how it is read.
CONFIGS = {"train": config.from_words, "plan": config.from_words, "improve": improve.from_words,
           "data distill": distill.from_words, "data curate": curate.from_words,
           "data teacher": config.from_words}  # fmt: skip
# Pages with commands.
COMMANDS = ("README", "adapters", "distillation", "generation", "preferences", "self_improvement", "serving",
            "training")  # fmt: skip
# What each method's rejections are called, and the modules that call them so.
REASONS = {"self_instruct": ("self_instruct", "instructions", "instances"), "alpaca": ("alpaca",),
           "respond": ("respond",), "evol_instruct": ("evolve",), "magpie": ("magpie",),
           "backtranslate": ("backtranslate",)}  # fmt: skip
REASON = r"(?:[Rr]ejected\(|return |problem=\(|append\(\(| \(|else \(|or )\"([a-z]+(?:_[a-z]+)*)\","


def section(name: str, title: str) -> str:
    """A part of a page, up to the next heading."""
    return re.search(rf"^#+ {re.escape(title)}$.*?(?=^#+ |\Z)", page(name), re.MULTILINE | re.DOTALL)[0]


def rows(text: str) -> dict[str, str]:
    """What tables say of each name in their first columns: the rest of the row; their heads are left out."""
    found = re.findall(r"^\| (`[^|]*) \| (.*) \|$(?!\n\|-)", text, re.MULTILINE)
    return {name: rest for names, rest in found for name in re.findall(r"`([\w.*]+)`", names)}


@pytest.mark.core
@pytest.mark.parametrize("path", [p for p in PAGES if p.stem in COMMANDS], ids=lambda p: p.stem)
def test_commands_with_a_config_are_read(path, tmp_path, monkeypatch):
    """Each command of the page: its parser knows every option, and its config where it takes one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "examples"))
    for name, snippet in re.findall(r"`(\w+\.py)`, for all runs:\n\n```python\n(.*?)```", path.read_text(), re.DOTALL):
        Path(name).write_text(snippet)
    blocks = re.findall(r"```bash\n(.*?)```|((?:^    .*\n)+)", path.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(map("".join, blocks)).replace("\\\n", " ").splitlines()
    lines = [line for line in lines if line.strip().startswith("jitune ") and "[" not in line]  # no outline of a usage
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    commands, read = [[word for word in command if word != "..."] for command in words], 0
    parser = cli.make_parser()
    for command in commands:
        found, rest = parser.parse_known_args(command)
        name = next((name for name in CONFIGS if command[: len(name.split())] == name.split()), "")
        if name:
            CONFIGS[name](found.config, rest)
            read += 1
        else:
            assert not rest, command
    assert commands and read >= (path.stem not in ("generation", "serving"))


@pytest.mark.core
def test_options_of_a_generator_and_of_a_distillation():
    text = page("distillation").partition("## Methods")[0]
    assert {*generators.defaults()} == {name.partition(".")[0] for name in rows(text.partition("| file in")[0])}
    given = {*rows(text.partition("| option of the config |")[2])}
    assert given == {*distill.defaults()} - {*distilling.METHODS} - {"teacher", "second"}


@pytest.mark.core
def test_methods_of_distillation_are_those_of_the_table():
    assert [*rows(section("distillation", "Methods"))] == [*distilling.METHODS]


@pytest.mark.core
@pytest.mark.parametrize("name", distilling.METHODS)
def test_options_of_a_method_with_their_defaults(name):
    said, module = rows(section("distillation", name)), distilling.load(name)
    assert {*said} == {*module.defaults()}
    for names, rest in re.findall(r"^\| (`[^|]*) \| (.*?) \|", section("distillation", name), re.MULTILINE):
        values = [module.defaults()[option] for option in re.findall("`(.*?)`", names)]
        shown = [f"{v:g}" if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v) for v in values]
        rest = re.sub(r"\bnone$", "", rest)
        if not re.search("[a-z] [a-z]", rest) and len(values) == len(re.split(", ", rest)):
            assert [word.strip("`") for word in re.split(", ", rest)] == shown, names


@pytest.mark.core
@pytest.mark.parametrize("name", REASONS)
def test_reasons_of_a_method_are_those_of_its_code(name):
    said = {*re.findall(r"`(\w+)`", section("distillation", name) + section("distillation", "Methods"))}
    for module in REASONS[name]:
        code = inspect.getsource(importlib.import_module(f"jitune.construct.distill.{module}"))
        found = re.findall(REASON, code)
        assert {*found} - {"image", "unicode", "user"} <= said and len({*found}) > 1, module


@pytest.mark.core
def test_options_of_objectives_are_said_where_they_are_used():
    distilled = rows(section("distillation", "By logits"))
    compared = rows(section("preferences", "Objectives").partition("| option of `objective` |")[2])
    for name, users in USED_BY.items():
        assert name in (distilled if users == ("distill",) else compared), name
        if users != ("distill",):
            said = compared[name].partition(" | ")[0]
            assert said == "all" or {*re.findall(r"`(\w+)`", said)} == {*users}, name
    assert {*rows(section("training", "Objectives"))} == {*CHOICES["objective.name"]}
    assert {*PREFERENCES} <= {*rows(section("preferences", "Data"))}


@pytest.mark.core
def test_methods_of_self_improvement_are_those_of_the_table():
    first, second = section("self_improvement", "Methods").split("| `method` | source |")
    assert [*rows(first)] == [*rows(second)] == [*methods.METHODS]
    for name, recipe in methods.METHODS.items():
        _, sampled, start, pool, objective, needs = rows(first)[name].split(" | ")
        assert (start, pool.split(" ")[0], objective) == (f"`{recipe.start}`", f"`{recipe.pool}`",
                                                         f"`{recipe.objective}`")  # fmt: skip
        wanted = f"{recipe.samples}, {recipe.temperature:g}"
        wanted += f", top_k {recipe.top_k}" if recipe.top_k else ""
        assert sampled == wanted + (f", top_p {recipe.top_p:g}" if recipe.top_p != 1 else "")
        assert ("own answers" in pool) == recipe.own_answers
        assert ("verifier" in needs, "reads" in needs, "answers" in needs) == (
            recipe.checks or recipe.reads, recipe.reads, recipe.answered)
        source, rate = rows(second)[name].split(" | ")
        assert source == recipe.source.replace("arXiv:", "arXiv ") and float(rate) == recipe.learning_rate


@pytest.mark.core
def test_limits_options_and_verifiers_of_self_improvement():
    limits = rows(section("self_improvement", "Checks for collapse"))
    assert {name: float(rest.partition(" | ")[0]) for name, rest in limits.items()} == stopping.LIMITS
    known = {name.partition(".")[0] for name in rows(section("self_improvement", "Options"))}
    assert known == {*improve.defaults()}
    said = rows(section("self_improvement", "Verifiers"))
    assert {*said} == {*verifiers.VERIFIERS}
    for name in said:
        assert {*verifiers.options(name)} <= {*re.findall(r"`(\w+)`", said[name])}, name
    assert all(f"`verifier.{name}`" in section("self_improvement", "Verifiers") for name in verifiers.GUARD)


@pytest.mark.core
def test_reasons_of_self_improvement_are_those_of_its_code():
    said = {*re.findall(r"`(\w+)`", section("self_improvement", "Methods"))}
    for module in ("select", "makers", "constitution", "problems"):
        code = inspect.getsource(importlib.import_module(f"jitune.construct.improve.{module}"))
        found = {*re.findall(r"_reject\(\w+, \"(\w+)\"", code), *re.findall(r"Rejected\(\"(\w+)\"", code)}
        found |= {*re.findall(r"\"(\w+)\" if (?:not asked|key in|answered)", code)}
        assert found - {"low_confidence"} <= said, module  # of a threshold, which a script may give


@pytest.mark.core
def test_examples_of_methods_and_verifiers_are_those_of_the_pages():
    for name, example in (("distillation", "own_method"), ("self_improvement", "own_verifier")):
        snippet = re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)[0]
        assert snippet.strip() in (ROOT / "scripts" / "examples" / f"{example}.py").read_text()


@pytest.mark.core
def test_a_method_of_ones_own_chooses_the_shortest_right_answer():
    snippet, names = re.findall(r"```python\n(.*?)```", page("self_improvement"), re.DOTALL)[1], {}
    exec(snippet, names)
    problem = Record("p", ({"role": "user", "content": "2 and 3?"}, {"role": "assistant", "content": "5"}))
    assert names["improve"](problem, ["It is 6.", "2 and 3 are 5, so it is 5.", "It is 5."]) == "It is 5."
    assert names["improve"](problem, ["6"]) is None


@pytest.mark.core
def test_self_instruct_through_a_function(tmp_path, monkeypatch, capsys):
    """The page's seeds and script, with what it says that comes out."""
    pytest.importorskip("rapidfuzz")
    monkeypatch.chdir(tmp_path)
    text = page("distillation").partition("## From seeds to a student")[2]
    Path("seeds.jsonl").write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    printed = re.search(r"```\n\n((?:    .*\n)+)\nWith a model", text)[1]
    assert [line[4:] for line in printed.splitlines()] == capsys.readouterr().out.splitlines()[:4]
