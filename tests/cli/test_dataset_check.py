import json

import pytest

from tests.conftest import run_cli
from tests.data.check.folders import write_broken_folder, write_clean_folder


@pytest.fixture
def check(tmp_path, monkeypatch, capsys, forget_datasets):
    """A function ``(words) -> (exit status, stdout, stderr)``; ``mine.yaml`` declares two datasets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "defaults: {rgb: rgb, sar: sar, labels: labels, classes: [city, road, water]}\n"
        f"datasets: {{clean: {{root: {tmp_path}/clean}}, broken: {{root: {tmp_path}/broken}}}}\n"
    )

    def call(*words):
        with pytest.raises(SystemExit) as stopped:
            run_cli("dataset check", *words, "--opts", "INPUT.SAR.SCALE", "db")
        return stopped.value.code, *capsys.readouterr()

    return call


def test_twelve_kinds_of_mistakes_in_one_folder_are_named_in_one_run(check, tmp_path):
    mistakes = write_broken_folder(tmp_path / "broken")
    status, output, _ = check("broken", "--dataset-file", "mine.yaml")
    assert status == 1
    assert [mistake for mistake, (file, _) in mistakes.items() if file not in output] == []
    assert "11 errors (training would stop)" in output and "good_" not in output


def test_json_names_the_file_of_each_mistake(check, tmp_path):
    mistakes = write_broken_folder(tmp_path / "broken")
    status, output, _ = check("broken", "--dataset-file", "mine.yaml", "--json")
    report = json.loads(output)
    assert status == 1 and report["datasets"] == ["broken"]
    found = {(finding["file"].removeprefix(f"{tmp_path}/broken/"), finding["kind"]) for finding in report["findings"]}
    assert found == set(mistakes.values())
    assert set(report["findings"][0]) == {"severity", "kind", "dataset", "pair", "file", "message", "advice"}


def test_nothing_is_said_of_a_clean_folder(check, tmp_path):
    write_clean_folder(tmp_path / "clean")
    status, output, _ = check("clean", "--dataset-file", "mine.yaml")
    assert status == 0 and output.splitlines() == [f"clean: {tmp_path}/clean", "", "No problems found."]
    assert json.loads(check("clean", "--dataset-file", "mine.yaml", "--json")[1])["findings"] == []


def test_warnings_alone_do_not_fail(check, tmp_path):
    write_clean_folder(tmp_path / "clean")
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("water]", "water, snow]"))
    status, output, _ = check("clean", "--dataset-file", "mine.yaml")
    assert status == 0 and "1 warning (training would run)" in output and "snow" in output


def test_a_yaml_file_stands_for_all_its_datasets_and_a_config_for_its_own(check, tmp_path):
    write_clean_folder(tmp_path / "clean")
    write_broken_folder(tmp_path / "broken")
    assert json.loads(check("mine.yaml", "--json")[1])["datasets"] == ["clean", "broken"]
    (tmp_path / "config.yaml").write_text("DATASETS: {FILES: [mine.yaml], TRAIN: [clean], TEST: []}\n")
    assert json.loads(check("--config-file", "config.yaml", "--json")[1])["datasets"] == ["clean"]


@pytest.mark.parametrize("words, message", [
    ([], "nothing to check"),
    (["nowhere"], "'nowhere', which is not registered"),
    (["nowhere.yaml"], "nowhere.yaml cannot be read"),
    (["--dataset-file", "mine.yaml"], "name those to check"),
    (["clean", "--show", "-1"], "--show needs 0 or more"),
    (["clean", "--workers", "0"], "--workers 1 or more"),
])  # fmt: skip
def test_a_wrong_command_line_is_one_sentence_and_status_2(check, words, message):
    status, _, error = check(*words)
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1 and message in error
