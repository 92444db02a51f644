"""Jobs: skipped, resumed and noted, whatever they make."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.jobs import Journal, file_states, run_jobs


@dataclass(frozen=True)
class Upper:
    """Writes a text file in capitals."""

    source: Path
    output: Path

    @property
    def name(self):
        return self.source.stem

    def fingerprint(self):
        return file_states([self.source])

    def read(self):
        text = self.source.read_text()
        if "!" in text:
            raise DataError(f"{self.source} is too loud.")
        return text

    def write(self, content):
        (self.output / "texts").mkdir(parents=True, exist_ok=True)
        (self.output / "texts" / self.name).write_text(content.upper())
        digest = hashlib.sha256(content.upper().encode()).hexdigest()
        return {"made": [{"name": self.name}], "files": {f"texts/{self.name}": digest}}


@pytest.fixture
def run(tmp_path):
    def call(texts, workers=1, strict=False, settings=None):
        for name, text in texts.items() if isinstance(texts, dict) else ():
            (tmp_path / f"{name}.txt").write_text(text)
        output = tmp_path / "out"
        journal = Journal(output, "upper", ["texts"])
        journal.start(settings or {"case": "upper"})
        jobs = [Upper(tmp_path / f"{name}.txt", output) for name in texts]
        return run_jobs(jobs, output, journal, workers=workers, title="texts", strict=strict)

    return call


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_jobs_are_not_run_again_unless_source_or_file_changes(run, tmp_path, workers):
    texts = {"a": "one", "b": "two", "c": "three"}
    assert run(texts, workers).done_before == 0
    (tmp_path / "out" / "texts" / "b").write_text("damaged")
    (tmp_path / "c.txt").write_text("another")
    finished = run(texts.keys(), workers)
    assert finished.done_before == 1 and len(finished.made) == 3
    assert {path.name: path.read_text() for path in (tmp_path / "out" / "texts").iterdir()} == {
        "a": "ONE",
        "b": "TWO",
        "c": "ANOTHER",
    }


def test_what_cannot_be_read_is_skipped_named_and_tried_again(run, tmp_path, capsys):
    texts = {"a": "one", "b": "two!"}
    (skipped,) = run(texts).skipped
    assert (skipped.name, skipped.reason) == ("b", "cannot be read") and "b.txt is too loud" in capsys.readouterr().err
    assert set(Journal(tmp_path / "out", "upper", ["texts"]).results) == {"a"}
    with pytest.raises(DataError, match="b.txt is too loud"):
        run(texts, strict=True)


def test_files_without_a_journal_or_of_other_settings_or_another_version_are_refused(run, tmp_path):
    run({"a": "one"})
    with pytest.raises(DataError, match="case upper instead of lower"):
        run({"a": "one"}, settings={"case": "lower"})
    journal = tmp_path / "out" / ".upper_journal.jsonl"
    first, *others = journal.read_text().splitlines()
    older = {"settings": json.loads(first)["settings"]}
    journal.write_text("\n".join([json.dumps(older), *others]))
    with pytest.raises(DataError, match="written by another version of mm_ovseg.*choose another --output"):
        run({"a": "one"})
    journal.unlink()
    with pytest.raises(DataError, match="not their journal"):
        run({"a": "one"})
