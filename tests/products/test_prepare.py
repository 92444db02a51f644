import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products import Preparation, is_product, prepare_image
from tests.products.landsat_product import write_landsat
from tests.products.sar_products import write_layer
from tests.products.sentinel2_product import write_sentinel2

GROUND = np.full((3, 12, 12), 0.1)


@pytest.mark.parametrize("zipped", [False, True])
def test_products_of_several_families_are_refused(tmp_path, zipped):
    files = [write_sentinel2(tmp_path, GROUND, zipped=zipped), write_landsat(tmp_path, GROUND, packed=".tar" * zipped)]
    with pytest.raises(DataError, match=r"S2A_.* and .*LC08_.* are not products of one kind; map them one by one"):
        prepare_image(files, "rgb", Preparation(folder=tmp_path / "out"))
    with pytest.raises(DataError, match="not products of one kind"):
        is_product([files[0].parent, *files], "rgb")
    assert not (tmp_path / "out").exists()


def test_plain_rasters_stay_as_they_are(tmp_path):
    files = [write_layer(tmp_path / name, GROUND[0]) for name in ("iw-vv.rtc.tiff", "vh.tif")]
    assert is_product(files[:1], "sar") and not is_product(files, "sar") and not is_product([], "sar")
    assert prepare_image(files, "sar", Preparation(folder=tmp_path / "out")).paths == files
