"""The files of products in folders and archives; tests of the families cover the rest."""

import re
import zipfile

import pytest

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.products.product_files import is_named_as, product_files

NAME, METADATA = re.compile(r"P\d(\.zip)?"), re.compile(r"meta\.xml")


def wanted(path):
    return path.suffix == ".xml"


def write_zip(path, name="P1/meta.xml"):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "<a/>")
        file.writestr("P1/notes.txt", "b")
    return path


def test_each_product_has_its_own_files(tmp_path):
    folder = tmp_path / "P2"
    folder.mkdir()
    (folder / "meta.xml").write_text("<a/>")
    archive = write_zip(tmp_path / "P1.zip")
    found = product_files([archive, folder / "meta.xml"], wanted, what="product", folder=tmp_path / "out")
    unpacked = tmp_path / "out" / "P1.zip"
    assert found == [(unpacked, [unpacked / "P1" / "meta.xml"]), (folder, [folder / "meta.xml"])]
    other = write_zip(tmp_path / "other" / "P1.zip")
    with pytest.raises(ConfigError, match="Two archives have the same name"):
        product_files([archive, other], wanted, what="product", folder=tmp_path / "out")
    with pytest.raises(DataError, match="contains no product"):
        product_files([write_zip(tmp_path / "P3.zip", "a")], wanted, what="product", folder=tmp_path / "out")


def test_products_are_recognised_by_names_alone(tmp_path):
    (tmp_path / "P3").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta.xml").write_text("")
    (tmp_path / "P4").write_text("")  # neither a folder nor an archive
    (tmp_path / "P5.zip").write_text("")  # damaged, which its reader says
    (tmp_path / "damaged.zip").write_text("")
    archives = write_zip(tmp_path / "P1.zip"), write_zip(tmp_path / "any.zip")
    yes = [*archives, tmp_path / "P3", tmp_path / "other", tmp_path / "other" / "meta.xml", tmp_path / "P5.zip"]
    no = [tmp_path, tmp_path / "P4", tmp_path / "damaged.zip", write_zip(tmp_path / "no.zip", "a.xml")]
    no += [tmp_path / "P6", "P6.zip", "https://example.org/P1.zip", "a\0b", "P" * 5000, ""]
    assert [is_named_as(path, NAME, METADATA) for path in (*yes, *no)] == [True] * len(yes) + [False] * len(no)
