"""mm-ovseg tables: the paper's numbers, those of runs, their differences and ranks, in Markdown and LaTeX."""

import json
import re

import numpy as np
import pytest

from mm_ovseg.cli.tables import NAMES
from mm_ovseg.tables import TABLES
from mm_ovseg.tables.contents import paper_tables
from mm_ovseg.tables.methods import METHODS
from tests.conftest import ROOT, run_cli
from tests.tables.written_runs import SETTINGS, STAGE_1, write_evaluation, write_measurement, write_run

BASES = {"MM-OVSeg": "mm_ovseg_vitb16_384.yaml", "GSNet": METHODS["GSNet"], "CAT-Seg": METHODS["CAT-Seg"]}
UNSEEN = [2, 2, 3, 3, 2, 2]  # classes of each setting
CLASSES = [6, 5, 8, 8, 6, 5]


@pytest.fixture
def tables(tmp_path, monkeypatch, capsys):
    """A function ``*arguments -> {title: {(label, ..., source): [cells]}}`` from the printed Markdown."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        run_cli("tables", *arguments)
        printed = capsys.readouterr()
        run.left_out = printed.err.splitlines()
        run.markdown = printed.out
        return read_markdown(printed.out)

    return run


def read_markdown(text):
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0].split(".")[0]
        lines = [line for line in section.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        count = rows[0].index("", 0 if rows[0][0] else 1) + 1
        found[title], labels = {}, ()
        for row in rows[2:]:
            labels = tuple(row[: count - 1]) if row[0] else labels
            found[title][(*labels, row[count - 1])] = row[count:]
    return found


def plain(cells):
    return [re.sub(r"\*\*|</?ins>", "", cell) for cell in cells]


def test_the_names_of_help_are_those_of_the_tables():
    assert list(NAMES) == list(TABLES)


def test_the_numbers_of_the_paper_agree_with_each_other():
    paper = paper_tables()
    full = [*paper["2"].values(), *paper["A3"]["MM-OVSeg"].values(), paper["A4"]["MM-OVSeg"]]
    for *values, mean in full:
        assert np.mean(values) == pytest.approx(mean, abs=0.0501)
    unseen, seen = (np.array(paper["A3"]["MM-OVSeg"][kind][:6]) for kind in ("unseen", "seen"))
    weighted = (UNSEEN * unseen + np.subtract(CLASSES, UNSEEN) * seen) / CLASSES
    assert weighted == pytest.approx(paper["2"]["MM-OVSeg"][:6], abs=0.15)  # rounded; the last is off by 0.14
    assert paper["A5"]["DINO only"] == [paper["2"]["MM-OVSeg"][1]]


def test_without_runs_the_paper_stands_alone(tables):
    found = tables("--tables", "2", "A2", "A3", "A4", "A5")
    assert list(found) == ["Table 2", "Table A2", "Table A3", "Table A4", "Table A5"]
    for rows in found.values():
        assert all(key[-1] in ("paper", "ours") for key in rows)
        assert not any(any(cells) for key, cells in rows.items() if key[-1] == "ours")
    second = found["Table 2"]
    assert [key[0] for key in second if key[-1] == "ours"] == list(METHODS)
    assert second["MM-OVSeg", "paper"] == [f"**{x}**" for x in ("57.7", "73.1", "36.6", "40.2", "59.7", "42.6", "51.7")]
    assert second["GSNet", "paper"] == [
        *(f"<ins>{x}</ins>" for x in ("57.0", "55.0", "35.2", "37.0", "57.2")), "32.4", "<ins>45.6</ins>"
    ]  # fmt: skip
    assert second["FGAseg", "paper"][5] == "<ins>40.6</ins>"
    # What only one method has is not the best of anything.
    assert found["Table A4"]["MM-OVSeg", "paper"] == ["64.5", "75.5", "39.4", "41.2", "66.0", "43.5", "**55.0**"]
    assert found["Table A4"]["CAT-Seg", "paper"] == [*[""] * 6, "<ins>52.1</ins>"]
    assert found["Table A3"]["MM-OVSeg", "unseen", "paper"][-1] == "32.3"
    assert found["Table A2"]["full MM-OVSeg", "paper"] == ["955.7", "116.9", "3.9", "0.014", "331", "73.1"]
    assert found["Table A2"]["DEF module", "paper"][-1] == ""
    assert found["Table A5"]["both", "paper"] == ["<ins>66.5</ins>"]


def test_runs_fill_their_cells_alone(tables, tmp_path):
    scores = {}
    for name, base in BASES.items():
        for index, setting in enumerate(SETTINGS):
            if (name, setting) != ("GSNet", "PIE-cloud"):
                overrides = STAGE_1 if name == "MM-OVSeg" else []
                right = {"MM-OVSeg": 600, "GSNet": 500, "CAT-Seg": 600 if setting == "DDHR-SK" else 400}[name]
                folder = tmp_path / "output" / f"{name} {index}"
                scores[name, setting] = write_run(folder, setting, *overrides, base=base, right=right)
    found = tables("--runs", "output", "--tables", "2", "A2", "A3", "A4", "A5")
    assert not tables.left_out
    means = {cell: np.mean(list(by_class.values())) for cell, by_class in scores.items()}

    for name in BASES:
        ours, paper, differences = (plain(found["Table 2"][name, part]) for part in ("ours", "paper", "difference"))
        for cell, theirs, difference, setting in zip(ours, paper, differences, SETTINGS, strict=False):
            if (name, setting) not in means:
                assert cell == difference == ""
                continue
            assert cell == f"{means[name, setting]:.1f}"
            assert difference == f"{float(cell) - float(theirs):+.1f}".replace("-", "−")
    mean = np.mean([means["MM-OVSeg", setting] for setting in SETTINGS])
    assert found["Table 2"]["MM-OVSeg", "ours"][-1] == f"**{mean:.1f}**"
    assert found["Table 2"]["GSNet", "ours"][-1] == "" != found["Table 2"]["CAT-Seg", "ours"][-1]  # one is missing
    assert found["Table 2"]["CAT-Seg", "ours"][0].startswith("<ins>")
    # Equal numbers share the first place, and the next is the second.
    assert found["Table 2"]["CAT-Seg", "ours"][1] == found["Table 2"]["MM-OVSeg", "ours"][1] != ""
    assert found["Table 2"]["CAT-Seg", "ours"][1].startswith("**")
    assert found["Table 2"]["GSNet", "ours"][1].startswith("<ins>")
    assert not any(any(found["Table 2"][name, "ours"]) for name in ("EBSeg", "SegEarth-OV", "FGAseg"))
    assert not any(key[-1] == "difference" for key in found["Table 2"] if key[0] == "EBSeg")

    unseen, seen = (
        np.array(plain(found["Table A3"]["MM-OVSeg", kind, "ours"]), dtype=float) for kind in ("unseen", "seen")
    )
    weighted = (UNSEEN * unseen[:6] + np.subtract(CLASSES, UNSEEN) * seen[:6]) / CLASSES
    assert weighted == pytest.approx([means["MM-OVSeg", setting] for setting in SETTINGS], abs=0.06)
    assert found["Table A3"]["CAT-Seg", "seen", "ours"][0].startswith("<ins>")
    assert found["Table A2"]["full MM-OVSeg", "ours"] == [*[""] * 5, plain(found["Table 2"]["MM-OVSeg", "ours"])[1]]
    assert found["Table A5"]["DINO only", "ours"] == plain(found["Table 2"]["MM-OVSeg", "ours"])[1:2]
    assert not any(any(cells) for key, cells in found["Table A4"].items() if key[-1] == "ours")


def test_measurements_stand_beside_the_papers_without_a_difference_of_times(tables, tmp_path):
    write_measurement(tmp_path / "a" / "efficiency.json", "mm_ovseg")
    rows = tables("--runs", "a", "--tables", "A2")["Table A2"]
    assert rows["full MM-OVSeg", "ours"] == ["400.0", "50.1", "", "0.015", "334.3", ""]
    assert rows["full MM-OVSeg", "difference"] == ["", "", "", "", "+3.3", ""]
    assert "Measured: full MM-OVSeg on a GPU for mm_ovseg." in tables.markdown


def test_labels_without_an_unseen_pixel_leave_their_cells_empty(tables, tmp_path):
    write_run(tmp_path / "run", "DDHR-SK", *STAGE_1)
    counts = np.diag([10, 0, 10, 0, 10]).tolist()  # road and water are unseen
    write_evaluation(tmp_path / "run", "ddhr_sk_val", confusion_matrix=counts)
    rows = tables("--runs", "run", "--tables", "A3")["Table A3"]
    assert rows["MM-OVSeg", "unseen", "ours"] == [""] * 7
    assert rows["MM-OVSeg", "seen", "ours"][1] == "100.0"


@pytest.fixture(scope="module")
def training():
    """The rows of Table A1, built once."""
    return {row.labels[0]: row for row in TABLES["A1"](None).rows}


# Counted on the released models.
@pytest.mark.parametrize("method,millions", [
    ("CAT-Seg", "25.12"),
    ("FGAseg", "33.77"),
    ("GSNet", "29.01"),
    ("EBSeg", "26.62"),
    ("MM-OVSeg", "31.17"),
])  # fmt: skip
def test_table_a1_needs_no_runs(training, method, millions):
    row = training[method]
    assert f"{row.ours[0]:.2f}" == millions and int(row.ours[0]) == row.paper[0]
    assert list(row.ours[1:]) == row.paper[1:]  # batch and learning rate


def test_the_command_writes_markdown_and_latex(tables, tmp_path):
    write_run(tmp_path / "output" / "a", "DDHR-SK → CH", *STAGE_1, right=100)
    write_run(tmp_path / "output" / "b", "DDHR-SK", "MODEL.CLIP.NAME", "ViT-quickstart-16", base=BASES["CAT-Seg"])
    tables(
        "--runs", "output", "--markdown", "new/t.md", "--latex", "new/t.tex", "--tables", "2", "A2", "A3", "A4", "A5"
    )
    assert (tmp_path / "new" / "t.md").read_text(encoding="utf-8") == tables.markdown
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"t.md", "t.tex"}
    [line] = tables.left_out
    assert line.startswith("output/b/inference/ddhr_sk_val/sem_seg_evaluation.json is left out: MMOVSeg with ViT-quick")

    latex = (tmp_path / "new" / "t.tex").read_bytes().decode("ascii")
    parts = re.findall(r"% Table (\w+) of the paper\n\\begin\{table\}\n(.*?)\\end\{table\}", latex, flags=re.DOTALL)
    assert [name for name, _ in parts] == ["2", "A2", "A3", "A4", "A5"]
    for (_, part), rows in zip(parts, read_markdown(tables.markdown).values(), strict=True):
        assert part.count("{") == part.count("}") and not re.search(r"(?<!\\)[%#&_](?!\d)", part.split("\\hline")[0])
        [columns] = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", part)
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(lines) == len(rows) + 1 and {line.count(" & ") for line in lines} == {len(columns) - 1}
        for line, cells in zip(lines[1:], rows.values(), strict=True):
            written = [cell.strip() for cell in line.removesuffix(r"\\").split(" & ")][-len(cells) :]
            replaced = [re.sub(r"\*\*(.+)\*\*", r"\\textbf{\1}", cell) for cell in cells]
            replaced = [re.sub(r"<ins>(.+)</ins>", r"\\underline{\1}", cell).replace("−", "$-$") for cell in replaced]
            assert written == replaced
    assert r"DDHR-SK $\rightarrow$ CH" in latex and "CO$_2$" in latex and "$-$3" in latex


@pytest.mark.parametrize("arguments,words", [
    (["--runs", "none"], ["--runs none is not a folder"]),
    (["--checkpoints", "list.yaml"], ["--checkpoints needs --runs"]),
    (["--runs", "output", "--checkpoints", "none.yaml"], ["none.yaml cannot be read"]),
    (["--runs", "output", "--markdown", "t", "--latex", "t"], ["would be written for both --markdown and --latex"]),
    (["--runs", "output", "--latex", "output/inference/ddhr_sk_val/sem_seg_evaluation.json"], ["one of the runs"]),
    (["--runs", "output", "--markdown", "output/config.yaml"], ["output/config.yaml is one of the runs itself"]),
    (["--runs", "output", "--markdown", "output/config.yaml/t.md"], ["cannot be written"]),
])  # fmt: skip
def test_wrong_input_is_one_sentence_and_nothing_written(tables, tmp_path, capsys, arguments, words):
    write_run(tmp_path / "output", "DDHR-SK", *STAGE_1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        run_cli("tables", *arguments, "--tables", "2")
    assert stopped.value.code == 2
    [message] = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and all(word in message for word in words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_efficiency_writes_says_which_encoders_were_measured(tables, tmp_path, monkeypatch, capsys):
    from mm_ovseg.efficiency import machine

    monkeypatch.setattr(machine, "MATRIX_RUNS", 2)
    words = ["--runs", "1", "--modes", "infer", "--device", "cpu", "--json", "output/quickstart.json"]
    sizes = ["MODEL.CLIP.IMAGE_SIZE", "96", "MODEL.DENSE_ENCODER.IMAGE_SIZE", "96"]
    run_cli("efficiency", "--config-file", ROOT / "configs/quickstart/mm_ovseg.yaml", *words, "--opts", *sizes)
    capsys.readouterr()
    dino = dict.fromkeys(("DENSE_ENCODER", "DENSE_ENCODER_SAR"), "vit_tiny_patch16_224")
    report = json.loads((tmp_path / "output" / "quickstart.json").read_text())
    assert report["encoders"] == {"CLIP": "ViT-quickstart-16", **dino}
    tables("--runs", "output", "--tables", "A2")
    assert ["is not a row of the efficiency table." in line for line in tables.left_out] == [True]
