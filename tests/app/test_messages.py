"""Sentences for visitors: with their own names of files, and nothing of the server."""

from pathlib import Path

import pytest

from mm_ovseg.app.messages import ADVICE, OWN_FILE, page_message
from mm_ovseg.errors import DataError, VocabularyError

PATH = Path("/tmp/server/abc/t0ken")
NAMES = {PATH: "INPUT.SAR.tif"}


def test_messages_name_files_as_visitors_do():
    names = {PATH: "vv.tif", PATH.with_name("0ther"): "vh.tif"}
    assert page_message(DataError(f"{PATH} (with 0ther) is bad."), names) == "vv.tif (with vh.tif) is bad."
    assert page_message(VocabularyError("A name is empty.")) == "A name is empty."


@pytest.mark.parametrize("message,told", [
    ("{} holds uint16 values; set INPUT.RGB.RANGE to the [low, high] that become 0 and 255.",
     "INPUT.SAR.tif holds uint16 values; set the RGB range to the [low, high] that become 0 and 255."),
    ("INPUT.RGB.BANDS is [9]; give three.", "The list of RGB bands is [9]; give three."),
    ("{} is dark; check INPUT.SAR.SCALE and INPUT.SAR.RANGE.",
     "INPUT.SAR.tif is dark; check the SAR unit and the SAR range."),
    ("{} is dark; set INPUT.SAR.NODATA 0.", f"INPUT.SAR.tif is dark. {ADVICE}"),
    ("{} covers 3% of the scene; check that the files belong together, or lower --min-covered.",
     f"INPUT.SAR.tif covers 3% of the scene; check that the files belong together. {ADVICE}"),
    ("{} has 3e9 pixels. Set MM_OVSEG_MAX_PIXELS, or cut it.", f"INPUT.SAR.tif has 3e9 pixels; cut it. {ADVICE}"),
    ("MODEL.WEIGHTS is [9], and {} has 3 bands.", f"The page cannot use these files. {ADVICE}"),
    ("{} is damaged; use mm-ovseg scene, or write it again. It ends early.",
     f"INPUT.SAR.tif is damaged; write it again. It ends early. {ADVICE}"),
    ("{} is -- you see -- empty; take one, or none.", "INPUT.SAR.tif is -- you see -- empty; take one, or none."),
    ("/tmp/server/maps/x.tif cannot be written (No space left on device); choose another place for it.", OWN_FILE),
    ("It is bad (/var/lib/gdal.data: no such file).", OWN_FILE),
    ("RGB and/or SAR at 3 m/s are bad.", "RGB and/or SAR at 3 m/s are bad."),
])  # fmt: skip
def test_messages_name_no_settings_and_paths_of_the_server(message, told):
    assert page_message(DataError(message.format(PATH)), NAMES) == told


def test_what_was_typed_is_quoted():
    assert page_message(VocabularyError("Named more than once: /a/b.")) == "Named more than once: /a/b."
