import pytest

from laptop.experiment.runner import Step, StepError, run_steps

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
COPY = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(pathlib.Path(sys.argv[2]).read_text() + '!')"


def run(steps, folder, jobs=2):
    run_steps(steps, folder=folder, logs=folder / "logs", jobs=jobs, environment={}, show_progress=False)


@pytest.mark.parametrize("jobs", [1, 3])
def test_steps_wait_for_what_they_need_and_done_ones_are_left_alone(tmp_path, jobs):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    third.write_text("was there")
    steps = [
        Step("second", ("-c", COPY, str(second), str(first)), second, ("first",)),
        Step("first", ("-c", WRITE, str(first), "hello"), first),
        Step("third", ("-c", WRITE, str(third), "anew"), third),
    ]
    run(steps, tmp_path, jobs)
    assert second.read_text() == "hello!" and third.read_text() == "was there"


def test_a_failure_stops_the_run_and_shows_the_log(tmp_path):
    after = tmp_path / "after"
    steps = [
        Step("bad", ("-c", "print('what went wrong'); raise SystemExit(3)"), tmp_path / "bad"),
        Step("after", ("-c", WRITE, str(after)), after, ("bad",)),
    ]
    with pytest.raises(StepError, match="bad failed with status 3") as error:
        run(steps, tmp_path)
    assert "what went wrong" in str(error.value) and not after.exists()


def test_a_step_without_its_output_has_failed(tmp_path):
    with pytest.raises(StepError, match="status 0.*nothing.log"):
        run([Step("nothing", ("-c", "pass"), tmp_path / "nothing")], tmp_path)
