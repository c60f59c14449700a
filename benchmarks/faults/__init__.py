"""Faults by the hundred: kills, crashes, failing disks, damaged files, wrong flags.

`python -m benchmarks.faults --help` tells how it is used.
"""

from benchmarks.faults._tally import Tally as Tally
