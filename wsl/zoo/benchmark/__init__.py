"""How well the encoders read the zoos: one command for a row of the table.

`python -m wsl.zoo.benchmark --help` tells how it is used.
"""

from wsl.zoo.benchmark._encoders import ENCODERS as ENCODERS
from wsl.zoo.benchmark._predict import Targets as Targets
from wsl.zoo.benchmark._run import names_for as names_for, run as run
from wsl.zoo.benchmark._settings import Settings as Settings
from wsl.zoo.benchmark._table import (
    markdown as markdown,
    summary as summary,
    table as table,
)
from wsl.zoo.benchmark._tasks import (
    find as find,
    score as score,
    Task as Task,
    TASKS as TASKS,
)
