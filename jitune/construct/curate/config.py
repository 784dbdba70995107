"""The configuration of `jitune data curate`: what is read, the stages in order, and a section of options for each.

    config = from_words("curate", ["--config.input=a.jsonl,b.json", "--config.length.min_words=5"])
    specs(config)                   # [Spec("empty", "...:build", {}), Spec("length", "...:build", {"min_words": 5})]

The options of a stage are those of its builder, with the defaults there. A stage of one's own, `name=module:function`
in `stages`, has a section of its name as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jitune import config as configs
from jitune.construct.curate import identity, table
from jitune.construct.curate.table import Spec
from jitune.construct.reading import Reading, read_records
from jitune.data import sources
from jitune.types import UserError

GIVEN = "inputs"  # an option of builders that is not in their section: the names of the inputs
COMMAND = "data curate"
SMALL = 1 << 20  # bytes of an input that are dealt with before two processes have started


def defaults() -> ConfigDict:
    """Every option of `jitune data curate`, with a section for each stage that jitune has."""
    config = ConfigDict({
        "input": "",  # files, directories or hub names, joined by commas
        # The next five: for all inputs, or one for each, in their order, with semicolons: "alpaca;auto".
        "format": "auto",
        "fields": "",  # "instruction=question,output=answer": other column names
        "reader": "",  # options of the format's reader: "make=pairs"
        "license": "",  # of the rows; "": as each row says
        "method": "",  # how the rows were made: annotation, distillation, ...; "": as each row says
        "limit": 0,  # rows of each input, to try a config on; 0: all
        "output_dir": "",
        "name": "",  # of the data, for the card; "": those of its files
        "stages": "",  # in order, joined by commas: "empty,length,mine=my_module:build"
        "seed": 0,  # of every stage whose own seed is 0
        "workers": -1,  # processes for filters; -1: one a core, none for 1 MB; 0: none, all in this process
        "parquet": False,  # kept.parquet beside kept.jsonl
        "examples": 3,  # of each reason, in the report
    })
    for name, target in table.STAGES.items():
        config[name] = _section(target)
    return config


def widen(config: ConfigDict) -> None:
    """Adds the sections of stages of one's own."""
    for name, target in table.parse(config.stages):
        if name not in config:
            config[name] = _section(target)
        elif not isinstance(config[name], ConfigDict):
            raise UserError(f"config.stages: '{name}' is an option already; give the stage another name as "
                            f"other={target}")


def _section(target: str) -> ConfigDict:
    return ConfigDict({name: value for name, value in table.options(target).items() if name != GIVEN})


def from_words(file: str | None, words: list[str]) -> ConfigDict:
    """The config file or recipe with `--config.NAME=VALUE` applied. Raises UserError as `jitune.config` does."""
    return configs.from_words(file, words, make=defaults, command=COMMAND, widen=widen)


def check(config: ConfigDict) -> None:
    """Refuses values that cannot work, before anything is read. Raises UserError."""
    for name in ("input", "output_dir"):
        if not config[name]:
            raise UserError(f"config.{name} is not set; give it in the config file or as --config.{name}=...")
    for name, least in (("workers", -1), ("examples", 0), ("limit", 0)):
        if config[name] < least:
            raise UserError(f"config.{name}={config[name]} must be at least {least}")


def readings(config: ConfigDict) -> list[Reading]:
    """A reading of each input, with its own format, columns, options of the reader, licence and method.

    Raises:
      UserError: neither one value nor one for each input, or a value that `read_records` refuses.
    """
    names, given = inputs(config), {}
    for option in ("format", "fields", "reader", "license", "method"):
        values = [value.strip() for value in config[option].split(";")]
        if len(values) not in (1, len(names)):
            raise UserError(f"config.{option}={config[option]!r} has {len(values)} values, and there are {len(names)} "
                            "inputs; give one for all, or one for each")
        given[option] = values * len(names) if len(values) == 1 else values
    return [read_records([name], format=given["format"][i] or "auto", fields=given["fields"][i],
                         license=given["license"][i], method=given["method"][i], bad="give",
                         options=given["reader"][i]) for i, name in enumerate(names)]


def inputs(config: ConfigDict) -> list[str]:
    """The inputs, each as it was given. Raises UserError where one is named twice."""
    found = sources.split_specs(config.input)
    if not found:
        raise UserError(f"config.input={config.input!r} names nothing; give files, folders or hub names")
    twice = [name for i, name in enumerate(found) if name in found[:i]]
    if twice:
        raise UserError(f"config.input: {twice[0]} is named twice")
    out = os.path.realpath(os.path.expanduser(config.output_dir))
    for name in found:
        if os.path.isdir(name) and os.path.commonpath([os.path.realpath(name), out]) == os.path.realpath(name):
            raise UserError(f"config.output_dir={config.output_dir} lies in the folder {name} that is read; give "
                            "another place")
    return found


def specs(config: ConfigDict) -> list[Spec]:
    """The stages in order with their options."""
    found = []
    for name, target in table.parse(config.stages):
        chosen = config[name].to_dict()
        chosen |= {"seed": config.seed} if chosen.get("seed") == 0 else {}
        chosen |= {GIVEN: tuple(inputs(config))} if GIVEN in table.options(target) else {}
        found.append(Spec(name, target, chosen))
    return found


def header(config: ConfigDict, stages: list[Spec], made: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a run is of: another input, stage or option makes another run; only that may go on in its folder.

    made: by the names of stages, see `identity.made_of`.
    """
    names = inputs(config)
    found = {f"config.{name}": config[name] for name in ("format", "fields", "reader", "license", "method", "limit",
                                                         "stages")}
    found |= {"config.input": ",".join(names), "digest of the input": identity.data(names)}
    for format in config.format.split(";"):
        found |= {f"digest of {file}": digest for file, digest in identity.code(format.strip()).items()}
    for spec in stages:
        for name, value in spec.options.items():
            if name != GIVEN:
                found[f"config.{spec.name}.{name}"] = value
        found |= {f"digest of {file}": digest for file, digest in made[spec.name].items()}
    return found


def workers(config: ConfigDict, size: int = 0) -> int:
    """How many processes, for so many bytes; 0 where the size is not known. For a small input none are started."""
    if config.workers >= 0:
        return config.workers
    if 0 < size < SMALL:
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
