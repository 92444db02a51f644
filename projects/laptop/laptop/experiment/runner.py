"""Running command lines with dependencies in parallel, and resuming them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mm_ovseg.errors import TrainingError

__all__ = ["Step", "StepError", "run_steps"]

LINES_SHOWN = 15


class StepError(TrainingError):
    """A command line failed; the message holds the end of its output."""


@dataclass(frozen=True)
class Step:
    """One command line.

    Attributes:
        name: unique; its log is ``{name}.log``.
        command: the arguments of ``python``.
        output: a file that exists once the step is done.
        needs: names of the steps before it.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    needs: tuple[str, ...] = ()


def run_steps(
    steps: Sequence[Step], *, folder: Path, logs: Path, jobs: int, environment: dict[str, str], show_progress: bool
) -> None:
    """Run every step whose output does not exist yet, once its dependencies are done.

    Args:
        steps: in an order in which they could run sequentially.
        folder: working folder of the command lines.
        logs: folder for their output.
        jobs: number of parallel processes, which share the cores.
        environment: additional environment variables.
        show_progress: show a progress bar on stderr.

    Raises:
        StepError: a step failed; running steps are completed, but no new one is started.
    """
    logs.mkdir(parents=True, exist_ok=True)
    done = {step.name for step in steps if step.output.exists()}
    waiting = [step for step in steps if step.name not in done]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, **environment}

    def run(step: Step) -> None:
        log = logs / f"{step.name}.log"
        with open(log, "wb") as file:
            status = subprocess.run(
                [sys.executable, *step.command], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
            ).returncode
        if status or not step.output.exists():
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
            raise StepError(f"{step.name} failed with status {status}; {log} ends with:\n" + "\n".join(last))

    running: dict[Future, Step] = {}
    progress = tqdm(total=len(steps), initial=len(done), desc="steps", unit="step", disable=not show_progress)
    with progress, ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [step for step in waiting if done.issuperset(step.needs)][: jobs - len(running)]
            waiting = [step for step in waiting if step not in ready]
            running |= {pool.submit(run, step): step for step in ready}
            progress.set_postfix_str(", ".join(step.name for step in running.values()))
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                step = running.pop(future)
                future.result()
                done.add(step.name)
                progress.update()
