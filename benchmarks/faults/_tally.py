import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass
class Tally:
    """What came of trying a kind of fault.

    Attributes:
        name: The kind.
        tried: How often.
        bad: A line for each time that it went otherwise than promised.
        note: What else there is to say.
    """

    name: str
    tried: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)
    note: str = ""

    def __str__(self) -> str:
        told = f"{self.name}: {self.tried} tried, {len(self.bad)} bad"
        return "\n  ".join([told, *self.bad[:20]])


def table(tallies: Sequence[Tally]) -> str:
    """A table in Markdown."""
    lines = ["| What | Tried | Bad | |", "|---|---:|---:|---|"]
    lines += [f"| {x.name} | {x.tried:,} | {len(x.bad)} | {x.note} |" for x in tallies]
    return "\n".join(lines)


def read_tallies(path: Path) -> list[Tally]:
    """What earlier calls found; nothing of a file that is not there."""
    if not path.exists():
        return []
    return [Tally(**one) for one in json.loads(path.read_text())["tallies"]]
