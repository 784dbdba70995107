"""Decontamination: records that share passages with an evaluation are rejected, with the passages and the items.

    stage = build(against=["gsm8k_test.jsonl"], rule="tulu")
    stage.judge(record)    # Reject("contaminated", "71 % of gsm8k_test.jsonl:12 in 8-grams", spans), where spans are
                           # (("Natalia sold clips to 48 of her friends", "gsm8k_test.jsonl:12"),)
    contamination(read_items(["gsm8k_test.jsonl"]), train_records)     # the contaminated test items, with their records

| rule | n | an item is contaminated by a record if |
|---|---|---|
| `tulu` | 8 | n-grams of the record's user turns cover more than half of the item's tokens (Lambert et al. 2024) |
| `gpt3` | 13 | they share an n-gram (Brown et al. 2020) |
| `any8` | 8 | they share an n-gram, as in s1 and open-r1 |

Tokens are `words.tokens`: words, and characters in scripts without spaces, so that a translation is found as well. n
counts words: in Chinese an 8-gram is one of 12 characters (`grams`).
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jitune.construct.curate.grams import Index, Item, Match, build_index, find, merged
from jitune.construct.curate.pieces import check_number, check_word
from jitune.construct.curate.stage import Filter, Keep, Reject, Verdict
from jitune.construct.curate.words import MODES, located
from jitune.data.record import Record, all_texts, turns
from jitune.data.sources import split_specs
from jitune.evals import catalogue, rows
from jitune.evals.choose import find_specs
from jitune.types import UserError


class Rule(NamedTuple):
    """n-grams of this length must cover more than this share of an item's tokens."""

    length: int
    share: float


RULES = {"tulu": Rule(8, 0.5), "gpt3": Rule(13, 0.0), "any8": Rule(8, 0.0)}
TURNS = ("user", "all")
# Columns that hold the question, by name in lower case; the first that is there is taken, with what belongs to it.
COLUMNS = ("question", "prompt", "instruction", "problem", "query", "goal", "behavior", "forbidden_prompt", "premise",
           "claim", "messages", "conversations", "text", "input", "sentence")  # fmt: skip
WITH = {"instruction": ("input",)}
MOST = 5  # items that a rejection names


class Contaminated(NamedTuple):
    """An item of an evaluation, the record that covers most of it, how much that is, and the shared passages."""

    item: str
    record: str
    coverage: float
    passages: tuple[str, ...]


def read_items(files: Sequence[str], *, columns: str = "auto") -> list[Item]:
    """The texts of evaluation files (.jsonl, .json, .csv, .tsv, .parquet, .gz), named `file:row`.

    files: paths, or patterns such as "mgsm/mgsm_*.tsv". columns: "auto", or names joined by commas, whose texts are
    joined; a .csv or .tsv whose header is a row of data (as MGSM's) is read from its first line and column.

    Raises:
      UserError: a pattern without files, a file that cannot be read, a row without a text in these columns.
    """
    items = []
    for spec in files:
        found = sorted(glob.glob(spec, recursive=True)) if glob.has_magic(spec) else [spec]
        if not found:
            raise UserError(f"against: {spec}: no such file")
        for file in found:
            items += _bare(file) if columns == "auto" and _is_bare(file) else _items(file, columns)
    return items


def task_items(tasks: Sequence[str], folders: Sequence[str], *, columns: str = "auto") -> list[Item]:
    """The texts of the documents of jitune's own tasks, named `task:id`, from data folders as `jitune eval` has them.

    Raises:
      UserError: a task that is not known, or whose files are not in the folders.
    """
    items = []
    for name in tasks:
        task = catalogue.find_task(name)
        specs = find_specs(task, folders, hub=False)
        if not specs:
            raise UserError(f"tasks: {name}: no {' nor '.join(task.files)} in {', '.join(folders)}")
        for document in task.load(specs):
            where = f"{task.name}:{document.id}"
            items.append(Item(where, _text(document.row, columns, where)))
    return items


def _items(file: str, columns: str) -> Iterator[Item]:
    for row, where in rows.read([file]):
        yield Item(where, _text(row, columns, where))


def _text(row: Mapping[str, Any], columns: str, where: str) -> str:
    by_name = {key.lower(): key for key in row}
    if columns == "auto":
        first = next((name for name in COLUMNS if row.get(by_name.get(name))), None)
        names = [by_name[n] for n in (first, *WITH.get(first, ())) if n in by_name]
    else:
        names = split_specs(columns)
        missing = [name for name in names if name not in row]
        if missing:
            raise UserError(f"{where}: has no column {missing[0]!r}; it has {', '.join(row)}")
    text = "\n".join(filter(None, (_flat(row[name]) for name in names)))
    if not text.strip():
        raise UserError(f"{where}: which column holds the question? give columns, of {', '.join(row)}")
    return text


def _flat(value: Any) -> str:
    """A text, or the user's turns of a conversation."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        said = [m for m in value if isinstance(m, Mapping) and m.get("role", m.get("from")) in ("user", "human")]
        return "\n".join(str(m.get("content", m.get("value")) or "") for m in said)
    return "" if value is None else str(value)


def _is_bare(file: str) -> bool:
    """A table whose first line is no header: none of its cells is a known name, and one is a text of many words."""
    if not file.lower().removesuffix(".gz").endswith((".tsv", ".csv")):
        return False
    first = next(iter(rows.read([file])))[0]
    return not any(key.lower() in COLUMNS for key in first) and max(map(len, first)) > 40


def _bare(file: str) -> Iterator[Item]:
    for number, (row, _) in enumerate(rows.read([file])):
        if number == 0:
            yield Item(f"{file}:1", next(iter(row)))
        yield Item(f"{file}:{number + 2}", next(iter(row.values())))


def texts_of(record: Record, which: str) -> list[str]:
    """The user's turns of a record, or all its texts, reasoning and rejected answers too.

    Raw text without a user's turn is taken whole.
    """
    if which == "user":
        said = [text for role, text in turns(record) if role == "user"]
        if said or record.messages:
            return said
    return list(all_texts(record))


def contamination(test: Sequence[Item], train: Iterable[Record], *, rule: str = "tulu", turns: str = "user",
                  tokens: str = "script", short: int = 5) -> list[Contaminated]:
    """The items of `test` that a record of `train` contaminates, in order, each with the record that covers most.

    Options as in `build`. Records may be a stream: only the index of `test` is held in memory.
    """
    index, chosen = _open(test, rule, turns, tokens, short)
    worst: dict[int, Contaminated] = {}
    for record in train:
        texts = texts_of(record, turns)
        for number, match, coverage in _contaminated(index, chosen, texts):
            if number not in worst or coverage > worst[number].coverage:
                passages = tuple(_passages(texts, match, tokens))
                worst[number] = Contaminated(index.items[number].name, record.id, coverage, passages)
    return [worst[number] for number in sorted(worst)]


def _open(items: Sequence[Item], rule: str, turns: str, tokens: str, short: int) -> tuple[Index, Rule]:
    check_word("rule", rule, tuple(RULES))
    check_word("turns", turns, TURNS)
    check_word("tokens", tokens, MODES)
    check_number("short", short, 1, 1000, whole=True)
    return build_index(items, RULES[rule].length, short=short, mode=tokens), RULES[rule]


def _contaminated(index: Index, rule: Rule, texts: Sequence[str]) -> list[tuple[int, Match, float]]:
    """(item, match, coverage) of the items that these texts contaminate, the most covered first."""
    found = [(number, match, len(match.covered) / len(index.words[number]))
             for number, match in find(index, texts).items()]
    return sorted((f for f in found if f[2] > rule.share), key=lambda f: (-f[2], f[0]))


def _passages(texts: Sequence[str], match: Match, mode: str) -> Iterator[str]:
    places: dict[int, list[tuple[int, int]]] = {}
    for which, start, end in merged(match.passages):
        if which not in places:
            places[which] = located(texts[which], mode=mode)
        yield texts[which][places[which][start][0] : places[which][end - 1][1]]


def build(*, against: Sequence[str] | str = (), tasks: Sequence[str] | str = (), data: Sequence[str] | str = (),
          rule: str = "tulu", turns: str = "user", tokens: str = "script", columns: str = "auto",
          short: int = 5) -> Filter:
    """A Filter of records that contaminate an evaluation.

    against: evaluation files or patterns. tasks: names of jitune's tasks, whose files are looked for in the folders
      `data`. Either may be a list, or names joined by commas.
    rule: tulu, gpt3 or any8. turns: `user`, or `all` texts of a record.
    tokens: `script`, or `plain` for `\\w+` in lower case, the published rules to the letter.
    columns: of the files, the columns with the question; "auto" knows the usual names.
    short: an item of fewer tokens than n is looked for as a whole; with fewer than `short`, only as a whole turn.

    Raises:
      UserError: an option that is not known, nothing to compare with, or files that cannot be read.
    """
    against, tasks, data = (split_specs(x) if isinstance(x, str) else list(x) for x in (against, tasks, data))
    items = read_items(against, columns=columns) + task_items(tasks, data, columns=columns)
    if not items:
        raise UserError("give against = evaluation files, or tasks = names and data = folders")
    index, chosen = _open(items, rule, turns, tokens, short)

    def judge(record: Record) -> Verdict:
        texts = texts_of(record, turns)
        found = _contaminated(index, chosen, texts)
        if not found:
            return Keep(record)
        number, _, coverage = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        spans = tuple((passage, index.items[n].name) for n, match, _ in found[:MOST]
                      for passage in _passages(texts, match, tokens))
        detail = f"{coverage:.0%} of {index.items[number].name} in {chosen.length}-grams{more}"
        return Reject("contaminated", detail.replace("%", " %", 1), spans)

    return Filter("decontaminate", judge)


def reads(*, tasks: Sequence[str] | str = (), data: Sequence[str] | str = (), **options: Any) -> list[str]:
    """The files of the tasks, which their names do not tell; those of `against` are named."""
    tasks, data = (split_specs(x) if isinstance(x, str) else list(x) for x in (tasks, data))
    return [path for name in tasks for path in find_specs(catalogue.find_task(name), data, hub=False)]


build.reads = reads
