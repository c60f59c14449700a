"""Runs that are killed at random moments and go on."""

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

from benchmarks.faults._cases import Case, differences, left, log_of
from benchmarks.faults._forks import HANGS, wait
from benchmarks.faults._tally import Tally


# Mostly the one that leaves no time for anything.
_SIGNALS = [signal.SIGKILL] * 8 + [
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1),
]
_KILLS_OF_A_RUN = 6


def kills(case: Case, count: int, work: Path, seed: int) -> Tally:
    """Kills runs at random moments, and compares what they come to.

    Args:
        case: What is trained.
        count: How many kills.
        work: An empty directory.
        seed: Seed of the moments.

    Returns:
        The tally. Bad is a run that ends in other bits, a traceback, a hang, or a
        refusal to go on.
    """
    moments = random.Random(f"{case.name}{seed}")
    reference, seconds = case.reference(work)
    tally = Tally(f"kills, {case.name}")
    runs = 0
    while tally.tried < count:
        directory = work / f"{case.name}-{runs}"
        runs += 1
        for _ in range(min(_KILLS_OF_A_RUN, count - tally.tried)):
            processes = case.start(directory)
            time.sleep(moments.uniform(0, seconds))
            number = moments.choice(_SIGNALS)
            # One of those that train together; the others notice.
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(processes), number)
            tally.tried += 1
            codes = [wait(process) for process in processes]
            allowed = {0, 3, 130, -number}
            if not set(codes) <= allowed:
                said = log_of(directory).read_text().strip().splitlines()
                tally.bad.append(
                    f"{directory.name}: {number.name}, exit {codes}: {said[-1:]}"
                )
        codes = case.finish(directory)
        said = log_of(directory).read_text()
        wrong = []
        if any(codes):
            wrong.append("hangs" if HANGS in codes else f"exit {codes}")
        else:
            wrong += differences(directory, reference) + left(directory)
        if "Traceback" in said:
            wrong.append("traceback")
        if wrong:
            tally.bad.append(f"{directory.name}: {', '.join(wrong)}")
        else:
            shutil.rmtree(directory)
            log_of(directory).unlink()
    tally.note = f"{runs} runs, each ended to the bits of one that nobody killed"
    return tally
