"""One process per GPU as Detectron2 starts them, or several processes on CPUs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
from typing import Any, Callable, Iterator, List, Tuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2 import engine
from detectron2.utils import comm

from .errors import ConfigError


def launch(
    main_func: Callable[..., Any],
    *,
    num_gpus: int,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: Tuple[Any, ...] = (),
) -> None:
    """Runs ``main_func(*args)`` once per process, in this process where there is only one.

    Args:
        main_func: importable by its name.
        num_gpus: per machine; 0 to run on CPUs.
        num_processes: per machine, on CPUs; they share its threads unless OMP_NUM_THREADS says how many each has.
        num_machines: that take part; each must call this function.
        machine_rank: of this machine, from 0.
        dist_url: where the processes meet; "auto" finds a free port, on one machine alone.
        args: of ``main_func``.

    Raises:
        ConfigError: there are not so many GPUs, or the machines have no address to meet at.
        SystemExit: a process ended itself with an exit code, which becomes this one's.
        torch.multiprocessing.ProcessRaisedException: a process raised; the message has its traceback.
    """
    if num_gpus and num_processes > 1:
        raise ConfigError(f"--num-processes {num_processes} is for CPUs, with --num-gpus 0; GPUs have one process each")
    if num_gpus > max(torch.cuda.device_count(), 1):
        raise ConfigError(f"--num-gpus {num_gpus}: PyTorch finds {torch.cuda.device_count()} on this machine")
    if num_machines > 1 and dist_url == "auto":
        raise ConfigError("--dist-url auto works on one machine; name an address of the first: tcp://HOST:PORT")
    child_args = (multiprocessing.get_start_method(), main_func, *args)
    if num_gpus * num_machines > 1 and torch.cuda.is_available():
        with _ends_of_children():
            engine.launch(_child, num_gpus, num_machines, machine_rank, dist_url, child_args)
    elif num_processes * num_machines > 1:
        if dist_url == "auto":
            dist_url = f"tcp://127.0.0.1:{_free_port()}"
        threads = None if "OMP_NUM_THREADS" in os.environ else max(1, torch.get_num_threads() // num_processes)
        with _ends_of_children():
            place = (num_processes, num_machines, machine_rank, dist_url)
            mp.spawn(_cpu_process, nprocs=num_processes, args=(place, threads, child_args))
    else:
        main_func(*args)


def _child(start_method: str, main_func: Callable[..., Any], *args: Any) -> None:
    """Runs ``main_func`` in a process that starts its own, such as data loading workers, as the parent would.

    Otherwise a spawned process spawns: each worker would import everything anew, and end at a Ctrl-C.
    """
    multiprocessing.set_start_method(start_method, force=True)
    main_func(*args)


def _cpu_process(local_rank: int, place: Tuple[int, int, int, str], threads: Any, args: Tuple[Any, ...]) -> None:
    """What each of the CPU processes runs."""
    num_processes, num_machines, machine_rank, dist_url = place
    if threads is not None:
        torch.set_num_threads(threads)
    rank = machine_rank * num_processes + local_rank
    world_size = num_machines * num_processes
    dist.init_process_group("gloo", dist_url, world_size=world_size, rank=rank, timeout=engine.DEFAULT_TIMEOUT)
    _make_local_group(num_processes)
    comm.synchronize()
    _child(*args)


def _make_local_group(num_processes: int) -> None:
    """Tells Detectron2 which processes share a machine; 0.6 has no function for it."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(num_processes)
        return
    for first in range(0, dist.get_world_size(), num_processes):
        ranks = list(range(first, first + num_processes))
        group = dist.new_group(ranks)  # every process takes part in making every group
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


def visible_devices() -> List[str]:
    """The GPUs as ``CUDA_VISIBLE_DEVICES`` names them, or their numbers."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(torch.cuda.device_count())]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _ends_of_children() -> Iterator[None]:
    """Passes SIGTERM on to the processes, waits for them after Ctrl-C, and ends with their exit code."""

    def pass_on(signum: int, _: Any) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signum)

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    except mp.ProcessExitedException as error:
        raise SystemExit(error.exit_code if error.exit_code > 0 else 128 - error.exit_code) from None
    except KeyboardInterrupt:  # the terminal sent it to the processes too; they are writing their state
        for child in multiprocessing.active_children():
            child.join()
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
