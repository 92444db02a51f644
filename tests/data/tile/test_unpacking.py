import io
import tarfile
import zipfile

import pytest

from mm_ovseg.data.tile import unpacking
from mm_ovseg.data.tile.unpacking import find_files, is_unpacked, list_archive, unpack_archive
from mm_ovseg.errors import DataError

FILES = {"top/rgb/a.tif": b"a" * 3000, "top/rgb/b.tif": b"b" * 10, "top/labels/a.tif": b"l", "top/rgb/._a.tif": b"m"}


def wanted(path):
    return path.parent.name == "rgb"


def pack(path, files, links=()):
    """A .tar, .tar.gz or .zip of (name, content)."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_only_what_is_wanted_is_unpacked(tmp_path, name):
    archive, folder = pack(tmp_path / name, FILES), tmp_path / "out"
    assert {str(path): size for path, size in list_archive(archive, wanted).items()} == {
        "top/rgb/a.tif": 3000,
        "top/rgb/b.tif": 10,
    }
    assert not folder.exists() and not is_unpacked(archive, folder)
    unpack_archive(archive, folder, wanted)
    assert is_unpacked(archive, folder)
    assert find_files(folder, wanted) == [folder / "top" / "rgb" / "a.tif", folder / "top" / "rgb" / "b.tif"]
    assert (folder / "top/rgb/a.tif").read_bytes() == FILES["top/rgb/a.tif"]
    assert not (folder / "top" / "labels").exists()


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_an_interrupted_call_goes_on(tmp_path, name):
    archive, folder = pack(tmp_path / name, FILES), tmp_path / "out"
    unpack_archive(archive, folder, wanted)
    state = folder / ".unpacked.json"
    state.write_text(state.read_text().replace("true", "false"))
    (folder / "top/rgb/b.tif").unlink()
    (folder / "top/rgb/.b.99.tmp.tif").write_bytes(b"b")  # what a killed call was writing
    before = (folder / "top/rgb/a.tif").stat().st_mtime_ns
    assert not is_unpacked(archive, folder)
    assert find_files(folder, wanted) == [folder / "top" / "rgb" / "a.tif"]
    unpack_archive(archive, folder, wanted)
    assert (folder / "top/rgb/a.tif").stat().st_mtime_ns == before
    assert (folder / "top/rgb/b.tif").read_bytes() == FILES["top/rgb/b.tif"]
    assert not (folder / "top/rgb/.b.99.tmp.tif").exists()


def test_another_archive_of_the_same_name_replaces_the_files(tmp_path):
    archive, folder = pack(tmp_path / "a.tar", FILES), tmp_path / "out"
    unpack_archive(archive, folder, wanted)
    archive.unlink()
    assert not is_unpacked(archive, folder)
    pack(archive, {"top/rgb/b.tif": b"B" * 10})
    assert not is_unpacked(archive, folder)
    unpack_archive(archive, folder, wanted)
    assert find_files(folder, wanted) == [folder / "top" / "rgb" / "b.tif"]
    assert (folder / "top/rgb/b.tif").read_bytes() == b"B" * 10


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
@pytest.mark.parametrize("member", ["../rgb/x.tif", "/rgb/x.tif", "top/../../rgb/x.tif"])
def test_nothing_leaves_the_folder(tmp_path, name, member):
    archive = pack(tmp_path / name, {member: b"x"})
    with pytest.raises(DataError, match="escapes the folder"):
        unpack_archive(archive, tmp_path / "deep" / "out", wanted)
    assert not list(tmp_path.rglob("x.tif"))


def test_links_are_not_unpacked(tmp_path):
    archive = pack(tmp_path / "a.tar", FILES, links=[("top/rgb/link.tif", "/etc/passwd")])
    unpack_archive(archive, tmp_path / "out", wanted)
    assert [path.name for path in find_files(tmp_path / "out", wanted)] == ["a.tif", "b.tif"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_an_archive_does_not_fill_the_disk(tmp_path, monkeypatch, name):
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1000)
    archive, folder = pack(tmp_path / name, {"rgb/a.tif": b"a" * 500, "rgb/b.tif": bytes(10**6)}), tmp_path / "out"
    with pytest.raises(DataError, match=r"more than 100 times its size \('rgb/b\.tif'\)"):
        unpack_archive(archive, folder, wanted)
    assert [path.name for path in find_files(folder, wanted)] == ["a.tif"] and not is_unpacked(archive, folder)
    unpack_archive(pack(tmp_path / name, {"rgb/a.tif": b"a" * 500}), folder, wanted)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_cut_off_archive_is_named_and_leaves_nothing_half_written(tmp_path, name, share):
    noise = bytes((7 * i * i + i // 3) % 251 for i in range(60_000))
    archive = pack(tmp_path / name, {f"rgb/{letter}.tif": noise for letter in "abc"})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"{name} cannot be read .*download it again"):
        unpack_archive(archive, tmp_path / "out", wanted)
    assert not is_unpacked(archive, tmp_path / "out")
    assert all(path.read_bytes() == noise for path in find_files(tmp_path / "out", wanted))
    assert not list((tmp_path / "out").rglob("*.tmp*"))


@pytest.mark.parametrize("where", [0, 60])  # the member's header, its content
def test_a_damaged_zip_member_is_named(tmp_path, where):
    archive = pack(tmp_path / "a.zip", {"rgb/a.tif": bytes(range(256)) * 40})
    content = bytearray(archive.read_bytes())
    content[where : where + 20] = b"\xff" * 20
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip cannot be read"):
        unpack_archive(archive, tmp_path / "out", wanted)


@pytest.mark.parametrize("content", [None, b"", b"<html>not found</html>"])
def test_what_is_no_archive_is_named(tmp_path, content):
    archive = tmp_path / "a.tar.gz"
    if content is not None:
        archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar\.gz (does not exist|cannot be read)"):
        list_archive(archive, wanted)
