"""The items of a file: read once, kept on disk, one at hand when it is asked for.

    items = gather(records, questions)
    len(items), items.ids[0], items[0]     # (50000, "8f...", Record(...))

What is held in memory of an item is its id and where it lies in a temporary file, so that it does not matter how large
the items are. Records that none of the questions fits are left out and counted, and so are repeated ones.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from jitune.construct.annotate.questions import Question, applies
from jitune.data.record import Record, content_of, digest
from jitune.evals.pages.shown import numbered
from jitune.types import UserError


class Items(Sequence):
    """Records by place, from a file that goes when the process ends.

    Attributes:
      ids: one a record. place: of an id. digest: of all ids and contents, in order.
      left_out: records by why no question fits them. repeated: records that are another's, id and content.
    """

    def __init__(self):
        self.file = tempfile.TemporaryFile(prefix="jitune-items-")
        self.starts, self.ids, self.place = array("Q", [0]), [], {}
        self.left_out, self.repeated, self.digest = Counter(), 0, ""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> Record:
        place = range(len(self))[place]
        self.file.seek(self.starts[place])
        # Nobody else can have written here: the file has no name.
        return pickle.loads(self.file.read(self.starts[place + 1] - self.starts[place]))

    def add(self, record: Record) -> None:
        """Keeps a record at the end."""
        data = pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
        self.file.seek(self.starts[-1])
        self.file.write(data)
        self.starts.append(self.starts[-1] + len(data))
        self.place[record.id] = len(self.ids)
        self.ids.append(record.id)

    def close(self) -> None:
        """Lets the file go."""
        self.file.close()


def gather(records: Iterable[Record], questions: Sequence[Question], *, what: str = "the file") -> Items:
    """Reads all records once.

    Raises:
      UserError: two records of different content have one id, or no question fits any of them.
    """
    items, total = Items(), hashlib.sha256()
    for record, content in once(records, repeated := Counter()):
        reasons = [applies(question, record) for question in questions]
        if all(reasons):
            items.left_out[reasons[0]] += 1
            continue
        total.update(f"{record.id} {content}\n".encode())
        items.add(record)
    items.repeated, items.digest = repeated.total(), total.hexdigest()[:24]
    if not items:
        items.close()
        why = f": {items.left_out.most_common(1)[0][0]}" if items.left_out else ""
        raise UserError(f"{what}: of {numbered(items.left_out.total(), 'record')} none can be annotated{why}")
    return items


def once(records: Iterable[Record], repeated: Counter) -> Iterator[tuple[Record, str]]:
    """Each id's first record, and the digest of its content; repetitions are counted.

    Raises:
      UserError: two records of different content have one id.
    """
    seen: dict[str, bytes] = {}
    for record in records:
        content = digest(content_of(record))
        before = seen.get(record.id)
        if before is None:
            seen[record.id] = bytes.fromhex(content)
            yield record, content
        elif before == bytes.fromhex(content):
            repeated[""] += 1
        else:
            raise UserError(f"{record.provenance.source}: id {record.id!r:.80} is that of another record before it, "
                            "of other content; ids must be unique")
