"""Stages over a stream of records, without files: the plainest form of curation, for scripts.

    for one in sift(records, [empty.build(), length.build(min_words=5)]):
        print(one.record.id, one.stage, one.reject)      # stage "" and reject None: it is kept

    good = list(kept(records, stages))

Filters and Sieves see a record as it comes. A Choice sees all that reached it: they are held in memory until then,
so what is rejected before it comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from jitune.construct.curate.stage import Choice, Filter, Head, Keep, Reject, Sieve, Stage
from jitune.data.record import Record
from jitune.types import UserError


class Sifted(NamedTuple):
    """What became of a record: as it was when it was kept or rejected, by which stage, and why."""

    record: Record
    stage: str = ""
    reject: Reject | None = None


def kept(records: Iterable[Record], stages: Sequence[Stage]) -> Iterator[Record]:
    """The records that pass all stages, as the stages changed them."""
    return (one.record for one in sift(records, stages) if one.reject is None)


def sift(records: Iterable[Record], stages: Sequence[Stage]) -> Iterator[Sifted]:
    """Runs records through stages, in order; every record comes out once.

    Raises:
      UserError: a stage failed on a record, or gave something else than a verdict.
    """
    stream: Iterable[Sifted] = (Sifted(record) for record in records)
    for is_choice, group in groupby(stages, lambda stage: isinstance(stage, Choice)):
        if is_choice:
            for choice in group:
                stream = _chosen(stream, choice)
        else:
            stream = _streamed(stream, list(group))
    return iter(stream)


def _streamed(stream: Iterable[Sifted], stages: Sequence[Filter | Sieve]) -> Iterator[Sifted]:
    memories = {stage.name: stage.memory() for stage in stages if isinstance(stage, Sieve)}
    for one in stream:
        for stage in stages if one.reject is None else ():
            if isinstance(stage, Filter):
                verdict = ask(stage.name, stage.judge, one.record)
            else:
                key = ask_key(stage, one.record)
                verdict = None if key is None else memories[stage.name].admit(key, one.record.id)
            if isinstance(verdict, Reject):
                one = Sifted(verdict.record or one.record, stage.name, verdict._replace(record=None))
                break
            one = Sifted(verdict.record) if verdict else one
        yield one


def _chosen(stream: Iterable[Sifted], choice: Choice) -> Iterator[Sifted]:
    import numpy

    held = []
    for one in stream:
        if one.reject is None:
            held.append(one.record)
        else:
            yield one
    measured = numpy.zeros((len(held), choice.width), numpy.float32)
    for start in range(0, len(held) if choice.width else 0, choice.batch_size):
        measured[start : start + choice.batch_size] = measure(choice, held[start : start + choice.batch_size])
    verdicts = choose(choice, [head_of(record, source_of(record)) for record in held], measured)
    for record, row, reject in zip(held, measured, verdicts, strict=True):
        record = note(choice, record, row)
        yield Sifted(record, choice.name, reject) if reject else Sifted(record)


def ask(name: str, judge, record: Record) -> Keep | Reject:
    """A filter's verdict. Whatever goes wrong in it is an error about the record."""
    try:
        verdict = judge(record)
    except UserError:
        raise
    except Exception as error:
        raise _failed(name, record, f"failed: {type(error).__name__}: {error}") from error
    if not isinstance(verdict, (Keep, Reject)):
        raise _failed(name, record, f"gave {type(verdict).__name__}, not Keep(record) or Reject(reason)")
    return verdict


def ask_key(stage: Sieve, record: Record) -> bytes | None:
    """A sieve's key, with errors about the record."""
    try:
        return stage.key(record)
    except UserError:
        raise
    except Exception as error:
        raise _failed(stage.name, record, f"failed: {type(error).__name__}: {error}") from error


def _failed(name: str, record: Record, what: str) -> UserError:
    source = f"{record.provenance.source}: " if record.provenance.source else ""
    return UserError(f"{source}record {record.id}: the stage {name} {what}")


def measure(choice: Choice, records: Sequence[Record]):
    """What a choice measures of a batch: float32 [records, width]."""
    import numpy

    found = numpy.asarray(asked(choice.name, choice.measure, records), numpy.float32)
    if found.shape != (len(records), choice.width):
        raise UserError(f"the stage {choice.name} measured {list(found.shape)} of {len(records)} records; "
                        f"[{len(records)}, {choice.width}] was said")
    return found


def choose(choice: Choice, heads: Sequence[Head], measured) -> list[Reject | None]:
    """What a choice says of all records."""
    verdicts = list(asked(choice.name, choice.choose, heads, measured))
    if len(verdicts) != len(heads):
        raise UserError(f"the stage {choice.name} chose among {len(heads)} records and gave {len(verdicts)} verdicts")
    strange = next((v for v in verdicts if v is not None and not isinstance(v, Reject)), None)
    if strange is not None:
        raise UserError(f"the stage {choice.name} chose {strange!r:.60}; None or Reject(reason) is needed for each")
    return verdicts


def tell(choice: Choice, heads: Sequence[Head], measured, chosen: Sequence[Reject | None]) -> dict:
    """What else a choice has to say; {} where it has nothing."""
    return asked(choice.name, choice.tell, heads, measured, chosen) if choice.tell else {}


def note(choice: Choice, record: Record, row) -> Record:
    """The record with what a choice writes onto it."""
    if choice.note is None:
        return record
    noted = asked(choice.name, choice.note, record, row)
    if not isinstance(noted, Record):
        raise UserError(f"the stage {choice.name} wrote {type(noted).__name__} onto record {record.id}, not a Record")
    return noted


def asked(name: str, function: Callable, *given: Any) -> Any:
    """What a function of a choice gives. What goes wrong in one's own is a UserError; in jitune's it is a bug."""
    try:
        return function(*given)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        module = getattr(getattr(function, "func", function), "__module__", None) or ""
        if module.split(".")[0] == "jitune":
            raise
        place = error.__traceback__.tb_next
        where = f" ({place.tb_frame.f_code.co_filename}:{place.tb_lineno})" if place else ""
        raise UserError(f"the stage {name} failed: {type(error).__name__}: {error}{where}") from error


def head_of(record: Record, source: str) -> Head:
    """What is held of a record."""
    return Head(record.id, source, language_of(record))


def source_of(record: Record) -> str:
    """The file or dataset that a record comes from, without its row."""
    name, _, row = record.provenance.source.rpartition(":")
    return name if row.isdecimal() else record.provenance.source


def language_of(record: Record) -> str:
    """The language that a reader or a stage has noted, or ""."""
    found = record.meta.get("language") or ""
    return found if isinstance(found, str) else ""
