"""What the documentation names is there: files, options, tasks with their headlines, examples as they run."""

import argparse
import importlib
import inspect
import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from jitune import cli, config
from jitune.construct.annotate import command
from jitune.construct.annotate.log import Log
from jitune.construct.curate import config as curate
from jitune.construct.curate import table
from jitune.construct.reading import READERS, read_records
from jitune.data import record_schema as schema
from jitune.data.formats import FORMATS
from jitune.data.record_rows import to_line
from jitune.evals import catalogue
from jitune.models.families import FAMILIES
from jitune.serve import fields
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of the commands below it."""
    found = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(options, action.choices.values()))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_families_of_the_readme_are_those_of_the_code():
    """A name of the row stands for the longest model_type that it begins with: Qwen2-MoE for qwen2_moe."""
    row = re.search(r"^\| families \| (.*?); ", (ROOT / "README.md").read_text(), re.MULTILINE)[1]
    types = {name.replace("_", ""): name for name in FAMILIES}
    shown = {re.sub(r"\W", "", name).lower() for name in row.split(", ")}
    found = {name: max((t for t in types if name.startswith(t)), key=len, default="") for name in shown}
    assert [name for name, at in found.items() if not at] == ["smollm2"]  # llama's, as its config says
    assert {types[at] for at in found.values() if at} == {*FAMILIES}


def test_the_readme_leads_to_every_page():
    linked = {*re.findall(r"\]\((docs/\w+\.md)\)", (ROOT / "README.md").read_text())}
    assert linked == {f"docs/{path.name}" for path in PAGES[1:]}


@pytest.mark.parametrize("name", ["evaluation", "judges", "records", "annotation", "agreement", "curation",
                                  "serving"])
def test_options_are_those_of_the_commands(name):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_.-]*[a-z]", page(name)))
    configs = {option for option in named if option.startswith("--config.")}
    groups = {"--judge_", "--mesh."}
    assert named - configs - options(cli.make_parser()) - groups == set()
    curation, training = curate.defaults(), config.defaults()
    for option in configs:
        section, _, rest = option.removeprefix("--config.").partition(".")
        known = [found[section] for found in (curation, training) if section in found]
        if section != "rated":  # the example's stage, whose options are its own
            assert known and (not rest or any(rest in found for found in known)), option


def test_every_option_of_the_data_commands_is_said():
    (data,) = [a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    (commands,) = [a for a in data.choices["data"]._actions if isinstance(a, argparse._SubParsersAction)]
    for name, where in (("convert", "records"), ("annotate", "annotation"), ("agreement", "agreement")):
        for action in commands.choices[name]._actions:
            if action.option_strings and action.dest not in ("help", "format", "fields", "out", "replicates", "seed"):
                assert action.option_strings[0] in page(where), (name, action.option_strings)


def test_every_option_and_field_of_the_server_is_said():
    (commands,) = [a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    said = re.findall(r"^\| (`--[^|]*) \|", page("serving"), re.MULTILINE)
    options = {a.option_strings[0] for a in commands.choices["serve"]._actions if a.dest != "help" and a.option_strings}
    assert sorted(re.findall(r"--[a-z_.]+", " ".join(said))) == sorted(options)
    of = {name: {path for path in fields.FIELDS if name in fields.FIELDS[path]} for path in fields.FIELDS
          for name in fields.FIELDS[path]} | {"tool_choice": {fields.CHAT}}
    of |= {name: set(fields.FIELDS) for name, *_ in fields.UNSUPPORTED if name not in of}
    of["top_logprobs"] = set(fields.FIELDS)  # which stands beside logprobs
    paths = {"both": set(fields.FIELDS), "chat": {fields.CHAT}, "completions": {fields.COMPLETION}}
    rows = re.findall(r"^\| (`[a-z][^|]*) \| (both|chat|completions) \| [^|]+ \|$", page("serving"), re.MULTILINE)
    assert {name: paths[where] for names, where in rows for name in re.findall("`(.*?)`", names)} == of


def test_the_options_of_generate_with_their_defaults():
    (commands,) = [a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    known = {a.option_strings[0]: a for a in commands.choices["generate"]._actions if a.dest != "help"}
    rows = dict(re.findall(r"^\| `(--\w+)[^|]*` \| ([^|]*?) ?\| ", page("generation"), re.MULTILINE))
    assert {*rows} == {name for name in known if not name.startswith("--mesh.")}
    for name, said in rows.items():
        default = known[name].default
        expected = "" if default is False or default in (None, "", []) else str(default)
        assert said == ("the model's" if name == "--chat_template" else expected), name
    named = re.findall(r"(?<![\w-])--[a-z][a-z_.-]*[a-z]", page("generation"))
    assert {*named} - {*known} == set()


def test_the_keys_of_records_are_those_of_the_schema():
    text = page("records")
    for title, kinds in (("record", schema.RECORD), ("message", schema.MESSAGE), ("candidate", schema.CANDIDATE),
                         ("annotation", schema.ANNOTATION), ("provenance", schema.PROVENANCE)):
        found = re.search(rf"^\| key of an? {title} \|.*?\n\n", text, re.MULTILINE | re.DOTALL)[0]
        rows = re.findall(r"^\| (`[^|]*) \|", found, re.MULTILINE)
        assert sorted(re.findall("`(.*?)`", " ".join(rows))) == sorted(kinds), title


def test_the_formats_of_records_are_those_that_are_read():
    rows = re.findall(r"^\| (`[^|]*) \| [^|]+ \| [^|]+ \|$", page("records").partition("## Formats")[2], re.MULTILINE)
    found = {name for row in rows for name in re.findall("`(.*?)`", row)}
    assert found >= ({*READERS} - {"training"}) | {*FORMATS}


def test_the_stages_are_those_of_the_table(tmp_path):
    for library in ("lingua", "datasketch"):
        pytest.importorskip(library)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (filter|sieve|choice) \|", page("curation"), re.MULTILINE)
    assert [name for name, _ in rows] == list(table.STAGES)
    (tmp_path / "test.jsonl").write_text('{"question": "Who wrote the Iliad?"}\n')
    vectors = {"embedder": "tests.construct.curate.embedders:words"}
    needed = {"decontaminate": {"against": str(tmp_path / "test.jsonl")}, "score": {"function": "builtins:len"},
              "embedding_duplicates": vectors, "diversity": vectors,
              **dict.fromkeys(("ifd", "ifd_ppl", "deita", "perplexity"), {"model": str(tmp_path)})}  # fmt: skip
    built = [table.build(table.Spec(name, table.STAGES[name], needed.get(name, {}))) for name, _ in rows]
    assert [type(stage).__name__.lower() for stage in built] == [kind for _, kind in rows]


@pytest.mark.parametrize("name", table.STAGES)
def test_options_and_reasons_of_a_stage_are_those_of_its_code(name):
    title = "Scores" if ".scores." in table.STAGES[name] else name
    title = "embedding_duplicates" if name == "diversity" else title
    section = re.search(rf"^### {title}\b.*?(?=^##)", page("curation"), re.MULTILINE | re.DOTALL)[0]
    said, given = {*re.findall(r"\w+", section)}, table.options(table.STAGES[name])
    if name == "length":  # said as `min_`, `max_` of what is measured
        given = {re.sub("^(min|max)_(?!characters)", "", option): value for option, value in given.items()}
    code = inspect.getsource(importlib.import_module(table.STAGES[name].partition(":")[0]))
    reasons = {*re.findall(r"Reject\(\s*\"(\w+)\"", code)} | {*filter(None, str(given.get("checks", "")).split(","))}
    assert {*given, *reasons} - {"inputs"} - said == set()


def test_the_stage_of_the_documentation_is_the_example():
    snippet = re.findall(r"```python\n(.*?)```", page("curation"), re.DOTALL)[0]
    assert snippet.strip() in (ROOT / "scripts" / "examples" / "own_filter.py").read_text()


def test_the_scripts_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datasketch")
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "scripts" / "examples" / "own_filter.py"))
    (tmp_path / "rated.jsonl").write_bytes(b"".join(map(to_line, example["records"]())))
    _, sifted, curated = re.findall(r"```python\n(.*?)```", page("curation"), re.DOTALL)
    exec(sifted, {})
    assert capsys.readouterr().out.splitlines() == [
        "r1 kept", "r2 exact: duplicate, same prompt and answer as r1",
        "r3 length: answer_too_short, 1 word, at least 2", 'r4 empty: not_available, "N/A"', "r5 kept", "r6 kept"]
    exec(curated, {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith(f"6 read, 4 kept in {Path('curated') / 'kept.jsonl'}\n")


def test_from_seeds_to_training(tmp_path, monkeypatch, capsys):
    """The commands of the page, in their order; between them people rate, and at the end a model would be trained."""
    for library in ("lingua", "datasketch", "aiohttp"):
        pytest.importorskip(library)
    text = page("records").partition("## From seeds to training")[2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("seeds.jsonl").write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    Path("own_filter.py").write_text((ROOT / "scripts" / "examples" / "own_filter.py").read_text())
    shell = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    convert, serve, export, agree, _, curated, show, train = (shlex.split(line, comments=True)[1:] for line in shell)
    assert cli.main(convert) == 0
    rate(cli.make_parser().parse_args(serve), {"Three and": 2, "The article": 1})
    assert cli.main(export) == 0 and cli.main([*agree, "--replicates", "50"]) == 0
    assert "accepted (>=4), of items, by their mean: 66.7%" in capsys.readouterr().out
    assert cli.main([*curated, "--config.workers=0"]) == 0
    rejected = [json.loads(line) for line in Path("curated/rejected.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["detail"]) for row in rejected] == [
        ("rated", "2.00 by 2, at least 3.5"), ("rated", "1.00 by 2, at least 3.5")]
    at = show.index("--model")
    assert cli.main(show[:at] + show[at + 2:]) == 0
    assert "Name three animals that can fly." in capsys.readouterr().out
    assert train[:3] == ["train", "--config", "sft"] and "--config.data.train=curated/kept.parquet" in train


def rate(a, low):
    """What annotators of a command's log say: 5, and less of answers that begin so."""
    with Log("seeds.records.jsonl.annotations.jsonl") as log:
        plan = command.Options(tasks=a.task, annotators=tuple(a.annotators.split(",")), overlap=a.overlap)
        desk = command.open_desk(a.source, log, plan)
        for who in plan.annotators:
            for number in range(len(desk.places(who))):
                item = desk.item(who, number)
                said = item["messages"][-1]["text"]
                rating = next((value for begin, value in low.items() if said.startswith(begin)), 5)
                desk.take({"kind": "answer", "event": f"{who}-event-{number}", "annotator": who, "item": item["item"],
                           "state": "done", "answers": {"quality": rating}})
        desk.items.close()


def test_the_format_of_the_documentation_reads_rows_of_several_answers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (snippet,) = re.findall(r"```python\n(.*?)```", page("records"), re.DOTALL)
    (tmp_path / "my_answers.py").write_text(snippet)
    row = {"question": "What is a sum of 2 and 3?", "correct_answers": ["5", "Five"]}
    (tmp_path / "right.jsonl").write_text(json.dumps(row) + "\n")
    found = list(read_records([str(tmp_path / "right.jsonl")], format="my_answers:read"))
    assert [[m["content"] for m in record.messages] for record in found] == [[row["question"], "5"],
                                                                            [row["question"], "Five"]]


def test_the_tables_have_every_task_with_its_headline():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `([a-z_0-9]+)` \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)}
    for name in (*catalogue.UTILITY, *catalogue.FAITHFULNESS, *catalogue.SAFETY):
        assert f"`{catalogue.find_task(name).metrics[0].name}`" in rows[name], name


def test_the_task_of_the_documentation_is_the_example():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    example = (ROOT / "scripts" / "examples" / "own_task.py").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippet.strip() in example.replace("  # fmt: skip", "")


def test_help_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long, parsers = [], [cli.make_parser()]
    for parser in parsers:
        long += [(parser.prog, line) for line in parser.format_help().splitlines() if len(line) > 80]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    assert long == [] and len(parsers) > 15
