from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from fbnet_plugin.engine.stop import StopSignals, TrainingStopped


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_held_signals_are_noted_once(signum):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)}
    with StopSignals() as signals:
        signals.holding = True
        os.kill(os.getpid(), signum)
        assert signals.received == signum
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL  # else PyTorch raises when a worker ends
        with pytest.raises(TrainingStopped) as stopped:
            os.kill(os.getpid(), signum)
        assert stopped.value.signum == signum and not stopped.value.between_iterations
    assert {number: signal.getsignal(number) for number in before} == before


def test_without_holding_the_first_signal_stops():
    with StopSignals(), pytest.raises(TrainingStopped) as stopped:
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped.value.between_iterations and isinstance(stopped.value, KeyboardInterrupt)


def _send_to_itself():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_workers_outlive_the_signals():
    with StopSignals():
        worker = multiprocessing.get_context("fork").Process(target=_send_to_itself)
        worker.start()
        worker.join()
    assert worker.exitcode == 0
