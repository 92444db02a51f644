"""Processes of --num-gpus that are forked, so that they have the patches of a test and start in a moment."""

import importlib
import multiprocessing

launch = importlib.import_module("mm_ovseg.engine.launch")  # its name in the package is the function


def fork_ranks():
    """Fork the processes that the launcher starts in this process; on its own it spawns them.

    They begin when all are forked. The first one that connects makes a thread of the store, in the launcher, look up
    its address, and a process that was forked at that moment would wait for ever for the lock of that look-up.
    """
    forked = multiprocessing.get_context("fork").Event()
    process, wait = launch._process, launch._wait

    def begin(*arguments):
        forked.wait()
        process(*arguments)

    def watch(*arguments):
        forked.set()
        return wait(*arguments)

    launch.START_METHOD, launch._process, launch._wait = "fork", begin, watch
