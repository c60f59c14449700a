"""How well the encoders read the zoos: one command for a row of the table.

`python -m benchmarks.zoo --help` tells how it is used.
"""

from benchmarks.zoo._encoders import ENCODERS as ENCODERS
from benchmarks.zoo._predict import Targets as Targets
from benchmarks.zoo._run import names_for as names_for, run as run
from benchmarks.zoo._settings import Settings as Settings
from benchmarks.zoo._table import (
    markdown as markdown,
    summary as summary,
    table as table,
)
from benchmarks.zoo._tasks import (
    find as find,
    score as score,
    Task as Task,
    TASKS as TASKS,
)
