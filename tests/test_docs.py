"""What the documentation names is there: files, options, tasks with their headlines, examples as they run."""

import argparse
import re

import pytest

from jitune import cli
from jitune.evals import catalogue
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of the commands below it."""
    found = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*map(options, action.choices.values()))
    return found


@pytest.mark.core
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.core
@pytest.mark.parametrize("name", ["evaluation", "judges"])
def test_options_are_those_of_the_commands(name):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_.]*[a-z]", text))
    groups = {"--config.evals.suite", "--config.evals.data", "--config.evals.every", "--judge_", "--mesh."}
    assert named - options(cli.make_parser()) - groups == set()


@pytest.mark.core
def test_the_tables_have_every_task_with_its_headline():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `([a-z_0-9]+)` \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)}
    for name in (*catalogue.UTILITY, *catalogue.FAITHFULNESS, *catalogue.SAFETY):
        assert f"`{catalogue.find_task(name).metrics[0].name}`" in rows[name], name


@pytest.mark.core
def test_the_task_of_the_documentation_is_the_example():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    example = (ROOT / "scripts" / "examples" / "own_task.py").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippet.strip() in example.replace("  # fmt: skip", "")
