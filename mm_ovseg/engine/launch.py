"""Starting one process per device, on one or several machines, or joining those of ``torchrun``."""

import math
import os
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from urllib.parse import urlsplit

import torch.distributed as dist
from detectron2.config import CfgNode
from torch import multiprocessing

from mm_ovseg.config import default_device
from mm_ovseg.engine.config_file import read_config_file
from mm_ovseg.engine.failures import FailureWatch, Place, announce, killed_message
from mm_ovseg.engine.interruption import SIGNALS, exit_status
from mm_ovseg.engine.process_group import START_TIMEOUT, check_device, join_group, leave_group
from mm_ovseg.engine.setup import load_config
from mm_ovseg.errors import ConfigError, MMOVSegError, brief_reason, exit_message

__all__ = ["launch"]

Main = Callable[[CfgNode, Namespace], None]

END_SECONDS = 10.0  # after a failure, how long the processes may take to end by themselves
POLL_SECONDS = 0.05
START_METHOD = "spawn"  # CUDA does not work in forked processes
STOPPED = [exit_status(number) for number in SIGNALS]  # exit statuses of a training that was told to stop


def launch(main: Main, args: Namespace) -> None:
    """Load the config and run ``main(cfg, args)`` in the requested number of processes.

    Under ``torchrun`` the processes exist already and only join their group. Otherwise ``args.num_gpus`` processes are
    started on this machine; the same command runs on each of ``num_machines``, with its ``machine_rank`` and the
    ``dist_url`` of the first, ``tcp://HOST:PORT``. The backend is NCCL if ``MODEL.DEVICE`` is cuda, else gloo. A
    process that fails ends all of them; its reason is printed once on each machine.

    Args:
        main: importable by name.
        args: from :func:`mm_ovseg.cli.train.add_arguments`.

    Raises:
        ConfigError: the config cannot be used, there are fewer GPUs than requested, or another machine cannot be
            reached.
        SystemExit: a process has failed, and has printed why.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        status = _run(main, args, *_place_in_torchrun())
    else:
        _check_machines(args)
        if args.num_gpus * args.num_machines == 1:
            main(load_config(args.config_file, args.opts, base=args.base), args)
            return
        status = _start(main, args)
    if status:
        sys.exit(status)


def _place_in_torchrun() -> tuple[Place, Callable[[], dist.Store], Sequence[int]]:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    place = Place(rank, size, local_rank, local_size, machine=int(os.environ.get("GROUP_RANK", 0)))
    first = rank - local_rank
    return place, lambda: next(dist.rendezvous("env://", timeout=START_TIMEOUT))[0], range(first, first + local_size)


def _check_machines(args: Namespace) -> None:
    for name in ("num_gpus", "num_machines"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(args, name)}; give 1 or more.")
    if not 0 <= args.machine_rank < args.num_machines:
        raise ConfigError(
            f"--machine-rank is {args.machine_rank}; give 0..{args.num_machines - 1}, another one on each machine."
        )


def _start(main: Main, args: Namespace) -> int:
    """Start the processes of this machine and wait for them; returns the exit status.

    This process hosts the store, or the first machine's does, so that it survives any of them.
    """
    store, address = _open_store(args)
    try:
        cfg = load_config(args.config_file, args.opts, base=args.base)
        _check_cpu_is_meant(args)
        check_device(cfg.MODEL.DEVICE, args.num_gpus)
    except MMOVSegError as error:  # found here, it is reported once
        announce(store, args.machine_rank, *exit_message(error))
        _part(store, args)
        raise
    resource_tracker.ensure_running()  # now, since starting it unblocks signals
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # in the processes too, until they can handle them
    processes = multiprocessing.start_processes(
        _process, (main, args, address), nprocs=args.num_gpus, join=False, start_method=START_METHOD
    ).processes
    with _forwarded_signals() as forwarded:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        status = _wait(processes, store, args, forwarded)
        _part(store, args)
    return status


def _check_cpu_is_meant(args: Namespace) -> None:
    """Refuse to replace GPUs by processes on the CPU where MODEL.DEVICE is cpu only by default."""
    is_given = "MODEL.DEVICE" in args.opts or "DEVICE" in read_config_file(args.config_file, args.base).get("MODEL", {})
    if not is_given and default_device() != "cuda":
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but this machine has no GPU that PyTorch can use; for {args.num_gpus} "
            "processes on the CPU, add MODEL.DEVICE cpu."
        )


def _open_store(args: Namespace) -> tuple[dist.Store, tuple[str, int]]:
    """The store of the run, and its address: host and port."""
    host, port = "127.0.0.1", 0
    if args.num_machines > 1:
        url = urlsplit(args.dist_url)
        host, port = url.hostname, url.port
        if url.scheme != "tcp" or not (host and port):
            raise ConfigError(
                f"--dist-url is '{args.dist_url}'; give tcp://HOST:PORT, a free port of the first machine."
            )
    is_host = args.machine_rank == 0
    try:
        if not is_host:
            _await_host(host, port)
        store = dist.TCPStore(host, port, is_master=is_host, timeout=START_TIMEOUT, wait_for_workers=False)
    except (RuntimeError, OSError) as error:
        problem = "cannot be listened on" if is_host else "does not answer"
        raise ConfigError(
            f"--dist-url {args.dist_url} {problem} ({brief_reason(error)}); give the same free port of the machine of "
            "--machine-rank 0 on all machines."
        ) from error
    return store, (host, store.port)


def _await_host(host: str, port: int) -> None:
    """Wait until the first machine listens; PyTorch would print warnings meanwhile."""
    give_up = time.monotonic() + START_TIMEOUT.total_seconds()
    while True:
        try:
            socket.create_connection((host, port), timeout=START_TIMEOUT.total_seconds()).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
            time.sleep(1)


def _wait(processes: Sequence[BaseProcess], store: dist.Store, args: Namespace, forwarded: set[int]) -> int:
    """Wait for the processes of this machine; returns the exit status of the first that failed, or 0."""
    status, give_up = 0, math.inf
    # Polled, since the sentinel of a killed process stays open in the processes that read data for it.
    while any(process.exitcode is None for process in processes):
        time.sleep(POLL_SECONDS)
        failed = next((rank for rank, process in enumerate(processes) if process.exitcode), None)
        if failed is not None and not status:
            status = processes[failed].exitcode
            if status not in STOPPED:  # then all have saved what there is, and may take their time
                give_up = time.monotonic() + END_SECONDS
            if status < 0:  # the number of a signal; otherwise the process has announced why
                number, status = -status, exit_status(-status)
                text = killed_message(_place(args, failed), number)
                _, is_first = announce(store, args.machine_rank, text, status)
                if is_first and number not in forwarded:
                    print(text, file=sys.stderr)
        if time.monotonic() > give_up:  # for the other machines, where it has not announced why:
            announce(store, args.machine_rank, f"error: {_place(args, failed)} left; all ranks were stopped.", status)
            for process in processes:
                process.kill()
    return status


def _part(store: dist.Store, args: Namespace) -> None:
    """Tell the first machine that this one has ended; there, keep the store until all have."""
    give_up = time.monotonic() + END_SECONDS
    with suppress(RuntimeError):  # a lost store
        store.set(f"ended/{args.machine_rank}", "")
        machines = [f"ended/{machine}" for machine in range(args.num_machines)]
        while args.machine_rank == 0 and not store.check(machines) and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)


@contextmanager
def _forwarded_signals() -> Iterator[set[int]]:
    """Forward SIGINT and SIGTERM to the child processes, and outlive them; gives the numbers of those that came."""
    forwarded: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        forwarded.add(number)
        for process in multiprocessing.active_children():
            os.kill(process.pid, number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _place(args: Namespace, local_rank: int) -> Place:
    return Place(
        rank=args.machine_rank * args.num_gpus + local_rank,
        size=args.num_machines * args.num_gpus,
        local_rank=local_rank,
        local_size=args.num_gpus,
        machine=args.machine_rank,
    )


def _process(local_rank: int, main: Main, args: Namespace, address: tuple[str, int]) -> None:
    multiprocessing.set_start_method(None, force=True)  # not inherited: readers of data are forked, as in torchrun
    connect = partial(dist.TCPStore, *address, is_master=False, timeout=START_TIMEOUT)
    sys.exit(_run(main, args, _place(args, local_rank), connect))


def _run(
    main: Main, args: Namespace, place: Place, connect: Callable[[], dist.Store], peers: Sequence[int] = ()
) -> int | str | None:
    """Run ``main`` as one process of several; if it fails, end all of them. Returns the code of its SystemExit, if any.

    Args:
        main, args: see :func:`launch`.
        place: of this process.
        connect: gives a new connection to the store of the run.
        peers: see :class:`FailureWatch`.
    """
    watch = FailureWatch(connect(), place, peers)
    status = None
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        cfg = load_config(args.config_file, args.opts, base=args.base)
        join_group(cfg.MODEL.DEVICE, place, connect())
        main(cfg, args)
    except SystemExit as stop:  # its traceback, dropped after this block, keeps the trainer and thus the group alive
        status = stop.code
    except BaseException as error:
        watch.fail(error)
    leave_group()
    watch.leave()
    return status
