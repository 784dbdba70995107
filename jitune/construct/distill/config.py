"""The configuration of `jitune data distill`: what is read, who answers, the method, and a section for each method.

    config = from_words("respond", ["--config.input=prompts.jsonl", "--config.teacher.model=models/large"])
    config.respond.temperature          # a method's options are those of its defaults()

A method of one's own, `--config.method=module`, has a section named after the module's last part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jitune import config as configs
from jitune.construct.curate import config as curation
from jitune.construct.curate import identity
from jitune.construct.distill import ranges, table
from jitune.construct.reading import Reading, read_records
from jitune.generators import open as generators
from jitune.types import UserError

COMMAND = "data distill"
GENERATORS = ("teacher", "second")


def defaults() -> ConfigDict:
    """Every option of `jitune data distill`."""
    config = ConfigDict({
        "method": "respond",  # a name of table.METHODS, or a module of your own, such as my_methods.debate
        "input": "",  # prompts, seeds or documents: files, directories or hub names, joined by commas
        "format": "auto",
        "fields": "",  # "instruction=question,output=answer": other column names
        "reader": "",  # options of the format's reader
        "license": "",  # of the input's rows; "": as each row says
        "limit": 0,  # records of the input, to try a config on; 0: all
        "seed": 0,
        "output_dir": "",
        "name": "",  # of the data, for the card; "": those of its files
        "examples": 3,  # of each reason, in the report
        "samples": 8,  # of what was kept, in the report
        "teacher": generators.defaults(),
        "second": generators.defaults(),  # where a method has two; model "": it has none
    })
    for name in table.METHODS:
        config[name] = ConfigDict(dict(table.load(name).defaults()))
    return config


def widen(config: ConfigDict) -> None:
    """Adds the section of a method of one's own."""
    name = table.section(config.method)
    if config.method in table.METHODS:
        return
    module = table.load(config.method)
    if name not in config:
        config[name] = ConfigDict(dict(module.defaults()))
    elif name in table.METHODS or not isinstance(config[name], ConfigDict) or name in GENERATORS:
        raise UserError(f"config.method={config.method}: '{name}' is an option already; give the module another name")


def from_words(file: str | None, words: list[str]) -> ConfigDict:
    """The config file or recipe with `--config.NAME=VALUE` applied. Raises UserError as `jitune.config` does."""
    return configs.from_words(file, words, make=defaults, command=COMMAND, widen=widen)


def check(config: ConfigDict) -> None:
    """Refuses values that cannot work, before anything is read. Raises UserError."""
    if not config.output_dir:
        raise UserError("config.output_dir is not set; give it in the config file or as --config.output_dir=...")
    for name in ("examples", "samples", "limit"):
        if config[name] < 0:
            raise UserError(f"config.{name}={config[name]} must be at least 0")
    table.load(config.method)
    ranges.check(options(config).to_dict(), table.section(config.method))


def options(config: ConfigDict) -> ConfigDict:
    """The section of the method."""
    return config[table.section(config.method)]


def has(config: ConfigDict, name: str) -> bool:
    """Whether a generator is given: "teacher" or "second"."""
    return bool(config[name].model or config[name].replay)


def inputs(config: ConfigDict) -> list[str]:
    """The inputs, each as it was given; [] where there is none. Raises UserError as curation's `inputs` does."""
    return curation.inputs(config) if config.input else []


def readings(config: ConfigDict) -> list[Reading]:
    """A reading of each input. Raises UserError for what `read_records` refuses."""
    return [read_records([name], format=config.format or "auto", fields=config.fields, license=config.license,
                         bad="give", options=config.reader) for name in inputs(config)]


def header(config: ConfigDict, teacher: Mapping[str, Any], second: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a run is of: another input, method, option or generator makes another run.

    teacher, second: their identities.
    """
    names, section = inputs(config), options(config)
    found = {f"config.{name}": config[name] for name in ("method", "format", "fields", "reader", "license", "limit",
                                                         "seed")}
    found |= {"config.input": ",".join(names), "digest of the input": identity.data(names)}
    found |= {f"config.{table.section(config.method)}.{name}": value for name, value in section.to_dict().items()}
    found |= {"teacher": dict(teacher), "second": dict(second) if second else None}
    found |= {f"digest of {file}": digest for file, digest in made_of(config).items()}
    return found


def made_of(config: ConfigDict) -> dict[str, str]:
    """Name -> digest of the files that options of the method name, and of code of one's own."""
    module = table.load(config.method)
    reads = getattr(module, "reads", None)
    found = identity.files(reads(options(config))) if reads else {}
    for format in config.format.split(";"):
        found |= identity.code(format.strip())
    return found | (identity.code(f"{config.method}:run") if config.method not in table.METHODS else {})
