import importlib.util
import io
import subprocess
import sys
import tarfile

import pytest

from tests.conftest import ROOT, load_tool
from tests.patience import PATIENCE

SCRIPT = ROOT / "tools" / "install_detectron2.py"

SETUP_FILE = """\
setup(
    name="pb1-detectron2",
    package_data={"detectron2.model_zoo": get_model_zoo_configs()},
    install_requires=[
        "Pillow>=7.1",  # or use pillow-simd
        "future",  # used by caffe2
        "pydot",  # used to save caffe2 SVGs
        "black==21.4b2",
        "omegaconf>=2.1",
    ],
    ext_modules=get_extensions(),
)
"""


@pytest.fixture(scope="module")
def tool():
    return load_tool("install_detectron2")


@pytest.fixture
def sources(tmp_path):
    """A source tree with just the texts that the edits look for."""
    root = tmp_path / "pb1-detectron2-0.6"
    transforms = root / "detectron2" / "data" / "transforms"
    transforms.mkdir(parents=True)
    (root / "setup.py").write_text(SETUP_FILE)
    (transforms / "transform.py").write_text("interp = Image.LINEAR\n")
    (root / "detectron2" / "numbers.py").write_text("a = np.int(np.float(1)), np.bool, np.object, np.str\n")
    (root / "detectron2" / "kept.py").write_text("a = np.int32, np.float64, np.bool_, np.integer, cnp.int\n")
    return root


def make_archive(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_expected_hash_is_accepted(tool, tmp_path):
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(b"")
    tool.verify_archive(archive, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_other_hash_is_refused_naming_the_file(tool, tmp_path):
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(b"something else")
    with pytest.raises(tool.InstallError, match=r"archive\.tar\.gz has the sha256"):
        tool.verify_archive(archive)


def test_archive_is_unpacked(tool, tmp_path):
    archive = make_archive(tmp_path / "a.tar.gz", [(tarfile.TarInfo("package-1/setup.py"), b"setup()")])
    root = tool.unpack_archive(archive, tmp_path / "unpacked")
    assert root.name == "package-1"
    assert (root / "setup.py").read_bytes() == b"setup()"


def symbolic_link():
    member = tarfile.TarInfo("package-1/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    "member",
    [tarfile.TarInfo("../outside.py"), tarfile.TarInfo("/tmp/absolute.py"), symbolic_link()],
    ids=["parent folder", "absolute path", "symbolic link"],
)
def test_unsafe_archive_is_refused_whole(tool, tmp_path, member):
    members = [(tarfile.TarInfo("package-1/setup.py"), b""), (member, b"")]
    archive = make_archive(tmp_path / "a.tar.gz", members)
    with pytest.raises(tool.InstallError, match="not a plain file"):
        tool.unpack_archive(archive, tmp_path / "unpacked")
    assert list((tmp_path / "unpacked").iterdir()) == []


def test_archive_without_setup_file_is_refused(tool, tmp_path):
    archive = make_archive(tmp_path / "a.tar.gz", [(tarfile.TarInfo("package-1/readme"), b"")])
    with pytest.raises(tool.InstallError, match=r"setup\.py"):
        tool.unpack_archive(archive, tmp_path / "unpacked")


def test_setup_file_is_patched(tool, sources):
    tool.patch_sources(sources)
    text = (sources / "setup.py").read_text()
    assert 'name="detectron2"' in text
    assert "ext_modules=[]" in text
    assert "get_model_zoo_configs" not in text
    for dropped in ("black", "future", "pydot"):
        assert dropped not in text
    for kept in ("Pillow>=7.1", "omegaconf>=2.1"):
        assert kept in text
    compile(text, "setup.py", "exec")


def test_code_is_patched(tool, sources):
    kept = (sources / "detectron2" / "kept.py").read_text()
    tool.patch_sources(sources)
    package = sources / "detectron2"
    assert (package / "data/transforms/transform.py").read_text() == "interp = Image.BILINEAR\n"
    assert (package / "numbers.py").read_text() == "a = int(float(1)), bool, object, str\n"
    assert (package / "kept.py").read_text() == kept


def test_stand_in_for_the_extension(tool, sources):
    tool.patch_sources(sources)
    spec = importlib.util.spec_from_file_location("stand_in", sources / "detectron2" / "_C.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    assert extension.get_compiler_version() == extension.get_cuda_version() == "not compiled"
    assert extension.has_cuda() is False
    assert not hasattr(extension, "__path__")
    with pytest.raises(ImportError, match="box_iou_rotated.*--from-git"):
        extension.box_iou_rotated(None, None)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("setup.py", 'name="pb1-detectron2"'),
        ("setup.py", "ext_modules=get_extensions()"),
        ("setup.py", '"black==21.4b2",'),
        ("setup.py", '"future",'),
        ("setup.py", '"pydot",'),
        ("setup.py", '"detectron2.model_zoo": get_model_zoo_configs()'),
        ("detectron2/data/transforms/transform.py", "Image.LINEAR"),
        ("detectron2/numbers.py", "np."),
    ],
)
def test_edit_whose_text_is_missing_is_an_error(tool, sources, file, text):
    path = sources / file
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, ""))
    with pytest.raises(tool.InstallError) as caught:
        tool.patch_sources(sources)
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)


def test_edit_whose_file_is_missing_is_an_error(tool, sources):
    (sources / "detectron2/data/transforms/transform.py").unlink()
    with pytest.raises(tool.InstallError, match=r"transform\.py does not exist"):
        tool.patch_sources(sources)


def test_missing_prerequisites_are_named(tool, monkeypatch):
    missing = ("torch", "pkg_resources")
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda name: None if name in missing else name)
    with pytest.raises(tool.InstallError, match="'torch' 'setuptools<82'$"):
        tool.check_prerequisites()


def test_error_is_one_sentence_and_a_non_zero_exit(tool, monkeypatch, capsys):
    def fail():
        raise tool.InstallError("the archive is not there")

    monkeypatch.setattr(tool, "find_installed", lambda: None)
    monkeypatch.setattr(tool, "install_from_archive", fail)
    assert tool.main([]) == 1
    assert capsys.readouterr().err == "install_detectron2.py: error: the archive is not there\n"


def test_failing_pip_is_reported(tool, capsys):
    with pytest.raises(tool.InstallError, match="nothing was done"):
        tool.run_pip("no-such-command", failure="nothing was done")
    assert "no-such-command" in capsys.readouterr().err


def test_installation_that_cannot_be_imported_is_removed(tool, monkeypatch):
    calls = []
    monkeypatch.setattr(tool, "REQUIRED_MODULES", ("no_such_module",))
    monkeypatch.setattr(tool, "run_pip", lambda *arguments, failure: calls.append(arguments))
    with pytest.raises(tool.InstallError, match="No module named 'no_such_module'"):
        tool.check_installation()
    assert calls == [("uninstall", "--yes", "detectron2")]


@pytest.mark.parametrize("arguments", [[], ["--from-git"]], ids=["archive", "git"])
def test_nothing_is_done_where_detectron2_imports(arguments):
    pytest.importorskip("detectron2")
    result = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert "detectron2 is installed at" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "revision"),
    [
        (["--from-git"], "02b5c4e295e990042a714712c21dc79b731e8833"),
        (["--from-git", "v0.6"], "v0.6"),
    ],
)
def test_from_git_installs_the_revision(tool, monkeypatch, arguments, revision):
    calls = []
    monkeypatch.setattr(tool, "find_installed", lambda: None)
    monkeypatch.setattr(tool, "check_installation", lambda: None)
    monkeypatch.setattr(tool, "run_pip", lambda *arguments, failure: calls.append(arguments))
    assert tool.main(arguments) == 0
    assert len(calls) == 1
    assert calls[0][-1].endswith(f"/detectron2.git@{revision}")
