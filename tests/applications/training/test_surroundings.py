"""What is around a run: who reads its output, what is closed, who sends signals."""

import errno
import gc
import os
import signal
import sys
import time
from pathlib import Path

import jax
import pytest

from applications.epvf import train
from applications.training import exit_on_user_error, Interrupt


def _prints(lines: int):
    """A command that prints and then leaves a mark of being done."""

    @exit_on_user_error
    def main(done: list[bool]) -> int:
        for _ in range(lines):
            print("a line", flush=True)
        print("not flushed")
        done.append(True)
        return 0

    return main


def _pipe_without_a_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_goes_away(name, monkeypatch):
    with pytest.raises(BrokenPipeError), _pipe_without_a_reader() as stream:  # control
        print("a line", file=stream, flush=True)
    done = []
    with _pipe_without_a_reader() as stream:
        monkeypatch.setattr(sys, name, stream)
        assert _prints(3)(done) == 0
        assert getattr(sys, name) is stream
    # What Python flushes at the end has a place to go to: closing raised nothing.
    assert done == [True]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_output_that_is_lost_to_a_full_disk_is_said(monkeypatch, capsys):
    done = []
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert _prints(3)(done) == 2
    error = capsys.readouterr().err
    assert error == "error: Not all could be printed: No space left on device\n"
    assert done == [True]
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert _prints(0)(done) == 2  # only the last flush fails


def test_output_that_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    done = []
    assert _prints(1)(done) == 0 and done == [True]


def test_help_for_a_reader_that_goes_away(monkeypatch):
    with _pipe_without_a_reader() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as exit_:
            train.main(["--help"])
    assert exit_.value.code == 0


_WARNINGS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, *_WARNINGS])
def test_signals_that_ask_to_stop(number, capfd):
    # The tests may themselves be run by nohup.
    outside = signal.signal(number, signal.SIG_DFL)
    try:
        with Interrupt() as interrupt:
            assert not interrupt.requested
            os.kill(os.getpid(), number)
            assert interrupt.requested
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert capfd.readouterr().err.startswith("Stopping after this iteration")


@pytest.mark.parametrize("number", _WARNINGS)
def test_warnings_may_come_again_and_again(number):
    with Interrupt() as interrupt:
        for _ in range(3):
            os.kill(os.getpid(), number)
        # The scheduler's own end, after its warning.
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)


def test_interrupts_that_libraries_turn_into_others_or_lose(capsys):
    def disguised(kind):
        try:
            raise kind
        except kind as error:
            raise RuntimeError("a class could not be made") from error

    def lost(kind):
        def callback(phase, info):
            gc.callbacks.remove(callback)
            raise kind

        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(0.2)
        return 0

    assert exit_on_user_error(disguised)(KeyboardInterrupt) == 130
    assert exit_on_user_error(lost)(KeyboardInterrupt) == 130
    said = capsys.readouterr().err
    assert said.count("Stopped at once.") == 2
    assert "Traceback" not in said
    # What is none stays what it is.
    with pytest.raises(RuntimeError):
        exit_on_user_error(disguised)(ValueError)


def test_what_fails_at_the_last_moment_is_said_in_a_line(monkeypatch, capsys):
    """When processes that train together take leave of each other, one may be lost."""

    def fails():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("applications.training.processes._exit.shutdown", fails)
    assert exit_on_user_error(lambda: 0)() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_debugging_of_nans_is_refused_at_once(tmp_path, capsys):
    for mode in (jax.debug_nans, jax.debug_infs):
        with mode(True):
            assert train.main(["--run-dir", str(tmp_path / "run")]) == 2
        assert "JAX_DEBUG_NANS and JAX_DEBUG_INFS end sound" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_double_precision_is_refused_at_once(tmp_path, capsys):
    with jax.enable_x64(True):
        assert train.main(["--run-dir", str(tmp_path / "run")]) == 2
    assert "Training is in single precision" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
