"""The loop over iterations: when it stops, who receives its rows, and its keys."""

from applications.training.loop._interrupt import Interrupt as Interrupt
from applications.training.loop._keys import key_for as key_for, Purpose as Purpose
from applications.training.loop._loop import loop as loop
from applications.training.loop._progress_line import (
    ProgressLine as ProgressLine,
    shown as shown,
)
from applications.training.loop._sink import make_row as make_row, Sink as Sink
from applications.training.loop._stop import Limit as Limit, StopRule as StopRule
from applications.training.loop._tensorboard import TensorBoard as TensorBoard
