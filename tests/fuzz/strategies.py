"""Inputs: valid files with a few bytes changed, documents with any values in their places, and bytes of any kind."""

import json
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from xml.etree import ElementTree

import numpy as np
import rasterio
import yaml
from hypothesis import strategies as st
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from tests.fuzz.targets import seed_vector_files, seed_weights

__all__ = ["input_strategies"]

DATASET = {
    "root": "data",
    "rgb": "rgb",
    "sar": "sar",
    "labels": "labels",
    "classes": ["city", "water, river"],
    "unseen": ["water, river"],
    "colors": [[1, 2, 3], [4, 5, 6]],
    "ignore_label": 255,
    "label_values": {0: 0, 7: 1},
    "ground_sampling_distance": 0.5,
    "pairs": ["a"],
}
CONFIG = (
    "_BASE_: base.yaml\nMODEL:\n  META_ARCHITECTURE: MMOVSeg\n  CLIP: {PRETRAINED: ''}\n"
    "SOLVER: {BASE_LR: 2.5e-4, STEPS: (1, 2)}\nDATASETS: {TRAIN: ('a',), UNSEEN: null}\n"
    "INPUT: {SAR: {RANGE: [-25, 0]}}\n"
)
AREA = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[128.9, 36.1], [129.1, 36.1], [129.001, 36.2], [128.9, 36.1]]],
            },
        }
    ],
}
MOSAIC = """<VRTDataset rasterXSize="48" rasterYSize="20"><SRS dataAxisToSRSAxisMapping="1,2">EPSG:32652</SRS>
<GeoTransform>500000, 10, 0, 4000000, 0, -10</GeoTransform><Metadata domain="IMAGE_STRUCTURE"><MDI key="A">B</MDI>
</Metadata><VRTRasterBand dataType="Byte" band="1" blockXSize="16"><NoDataValue>0</NoDataValue>
<ColorInterp>Red</ColorInterp><ColorTable><Entry c1="1" c2="2" c3="3" c4="255"/></ColorTable><Scale>2</Scale>
<SimpleSource resampling="cubic"><SourceFilename relativeToVRT="1" shared="0">good.tif</SourceFilename>
<SourceBand>2</SourceBand><SourceProperties RasterXSize="24" RasterYSize="20" DataType="Byte" BlockXSize="24"/>
<SrcRect xOff="0" yOff="0" xSize="24" ySize="20"/><DstRect xOff="12.5" yOff="0" xSize="24" ySize="20"/></SimpleSource>
<ComplexSource><SourceFilename relativeToVRT="1">good.tif</SourceFilename><NODATA>3</NODATA><ScaleRatio>2</ScaleRatio>
<LUT>0:1,9:8</LUT></ComplexSource></VRTRasterBand><OverviewList>2 4</OverviewList></VRTDataset>
"""
# What parsers have special cases for; put in as it is, where random bytes would hardly ever spell it.
TEXT_TOKENS = [
    *(
        b"!!int ",
        b"!!float ",
        b"!!bool ",
        b"!!timestamp ",
        b"!!binary ",
        b"!!set ",
        b"!!omap ",
        b"!!python/name:os.system ",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"<<: *a",
        b"? ",
        b"- ",
        b"--- ",
        b"...",
        b"|",
        b">",
        b"%YAML 9.9",
        b"2001-99-99",
        b"0x",
        b"0o9",
    ),
    *(
        b".inf",
        b".nan",
        b"-.inf",
        b"NaN",
        b"1e999",
        b"null",
        b"~",
        b"''",
        b'""',
        b"true",
        b"190:20:30",
        b"9" * 5000,
        b"-1",
    ),
    *(b"[" * 3000, b"{a: " * 2000, b'{"a":' * 2000, b"[", b"]", b"{", b"}", b"\\", b"\\u0000", b"\\ud800", b"\xff\xfe"),
    *(
        b"..",
        b"../",
        b"/",
        b"\0",
        b"*",
        b"'",
        b'"',
        b",",
        b";",
        b":",
        b"\r",
        b"\n",
        b"\t",
        b" ",
        b"\xe2\x80\xa8",
        b"\xef\xbb\xbf",
    ),
]
XML_TOKENS = [
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?a?>",
    b"&lt;",
    b"&#0;",
    b"&a;",
    b"<a>",
    b"</a>",
    b"/>",
    b'"',
    b"=",
]
MOSAIC_WORDS = [
    *(
        "0",
        "-1",
        "1.5",
        "1e300",
        "nan",
        "2147483647",
        "4294967297",
        "",
        "x",
        "1,2",
        "5:3,4:9",
        "Byte",
        "Float64",
        "CInt16",
    ),
    *(
        "/vsimem/a",
        "..",
        ".",
        "data/rgb/a.tif",
        "mosaic.vrt",
        "mask,1",
        "LOCAL_CS",
        "OVERVIEWS",
        "OVERVIEW_FILE",
        "cubic",
    ),
    *(
        "MaskBand",
        "VRTRasterBand",
        "VRTDerivedRasterBand",
        "KernelFilteredSource",
        "SourceFilename",
        "SrcRect",
        "GCPList",
    ),
]
BINARY_TOKENS = [
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\0\0\0", b"\0\0\0\1", b"II*\0", b"MM\0*", b"II+\0"),
    *(
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xc4",
        b"\xff\xda",
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"IDAT",
        b"IEND",
        b"PK\3\4",
        b"\x80\2",
    ),
    *(
        b"\0",
        b"\xff",
        b"\x7f",
        b"\x80",
        b"\0\1",
        b"\1\1",
        b"\2\1",
        b"\3\1",
        b"\x11\1",
        b"\x15\1",
        b"\x1c\1",
        b"\x44\1",
        b"\x53\1",
    ),
]
NAMES = [
    *("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"),
    *("storage_tokens", "rope_embed.periods", "visual.transformer.resblocks.0.attn.in_proj_weight"),
    *("token_embedding.weight", "positional_embedding", "sem_seg_head.predictor.x", "student.model.x", "head.mlp.0"),
]


def input_strategies() -> dict[str, st.SearchStrategy[bytes]]:
    """For every target, what it is tried on."""
    images = _images()
    labels = _labels()
    plain = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["..", "/", "*"]),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    )
    dataset_text = yaml.safe_dump({"defaults": {"root": "."}, "datasets": {"d": DATASET}}).encode()
    classes = {"classes": ["city", "water, river"], "colors": [[1, 2, 3], [4, 5, 6]], "unseen": ["city"]}
    legend = b"0: null\n1: city\n2: 'water, river'\n3: water\n"
    manifest = b'rgb,sar,name,aoi\na.tif,b.tif,x,\n"r.tif;g.tif;b.tif",,"Z, s",area.geojson\n'
    return {
        "raster": _mutated(images) | _mutated(labels) | st.binary(min_size=1, max_size=300),
        "label": _mutated(labels) | _mutated(images) | st.binary(min_size=1, max_size=300),
        "scene": _mutated(images) | st.binary(min_size=1, max_size=300),
        "mosaic": st.integers(0, 2**64 - 1).map(_other_mosaic) | _mutated([MOSAIC.encode()], XML_TOKENS),
        "dataset_file": _replaced(DATASET, plain, lambda value: _yaml({"datasets": {"d": value}}))
        | _mutated([dataset_text], TEXT_TOKENS)
        | plain.map(_yaml),
        "config_file": _mutated([CONFIG.encode()], TEXT_TOKENS) | plain.map(_yaml),
        "class_names": st.text(max_size=30).map(_bytes)
        | _mutated([b"water,river;road,street|road", b"a,b,c|b"], TEXT_TOKENS),
        "class_file": _replaced(classes, plain, _json) | _mutated([_json(classes)], TEXT_TOKENS) | plain.map(_json),
        "legend": _mutated([legend], TEXT_TOKENS)
        | st.dictionaries(st.text(max_size=5) | st.integers(), plain, max_size=4).map(_yaml),
        "manifest": _mutated([manifest], TEXT_TOKENS) | st.text(max_size=60).map(_bytes),
        "area": _mutated([_json(AREA)], TEXT_TOKENS)
        | _replaced(AREA["features"][0]["geometry"], plain, _json)
        | plain.map(_json),
        "polygons": _mutated(seed_vector_files()) | st.binary(min_size=1, max_size=300),
        "weights": _mutated(seed_weights()) | st.binary(min_size=1, max_size=300),
        "converter": st.tuples(
            st.sampled_from(["", "model", "teacher", "state_dict"]),
            st.lists(
                st.tuples(
                    st.sampled_from(["", "module.", "backbone.", "module.backbone.", "student.model."]),
                    st.sampled_from(NAMES) | st.text(max_size=6),
                    st.lists(st.integers(0, 9), max_size=4),
                ),
                max_size=8,
            ),
        ).map(_checkpoint_lines),
    }


def _images() -> list[bytes]:
    """Small rasters of many kinds, each after the byte that tells its suffix."""
    values = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
    grey, place = values[:1], {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 10, 10)}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    return [
        b"\0" + _raster(values, "GTiff", **place, compress="deflate"),
        b"\0" + _raster(values, "GTiff", **place, **tiled, compress="lzw", predictor=2, interleave="pixel"),
        b"\0" + _raster(values, "GTiff", photometric="YCBCR", compress="jpeg"),
        b"\0" + _raster(grey.astype(np.float32), "GTiff", **place, nodata=-9999, compress="packbits"),
        b"\0" + _raster(values.astype(np.uint16) * 9, "GTiff", **place, nodata=0, BIGTIFF="YES"),
        b"\0" + _raster(grey.astype(np.complex64), "GTiff"),
        b"\0" + _raster(values.astype(np.float64), "GTiff", **tiled, compress="zstd"),
        b"\1" + _raster(values, "PNG"),
        b"\1" + _raster(np.concatenate([values, grey]), "PNG"),
        b"\1" + _raster(grey.astype(np.uint16), "PNG"),
        b"\2" + _raster(values, "JPEG"),
        b"\2" + _raster(grey, "JPEG", progressive=True),
    ]


def _labels() -> list[bytes]:
    values = np.random.default_rng(0).integers(0, 5, (1, 20, 24)).astype(np.uint8)
    colors = {index: (index, 2 * index, 9, 255) for index in range(5)}
    return [
        b"\1" + _raster(values, "PNG"),
        b"\1" + _raster(values, "PNG", colormap=colors),
        b"\0" + _raster(values, "GTiff", colormap=colors, compress="lzw"),
        b"\0" + _raster(values.astype(np.int16), "GTiff", nodata=-1),
        b"\0" + _raster(values.astype(np.float32), "GTiff", nodata=float("nan")),
        b"\0" + _raster(values, "GTiff", nbits=4, compress="deflate"),
    ]


def _raster(values: np.ndarray, driver: str, colormap: dict | None = None, **profile) -> bytes:
    count, height, width = values.shape
    with MemoryFile() as memory:
        with rasterio.open(
            memory.name, "w", driver=driver, count=count, height=height, width=width, dtype=values.dtype, **profile
        ) as file:
            file.write(values)
            if colormap:
                file.write_colormap(1, colormap)
        return memory.read()


def _mutated(seeds: Sequence[bytes], tokens: Sequence[bytes] = BINARY_TOKENS) -> st.SearchStrategy[bytes]:
    """A seed with one to eight edits; its beginning, where headers are, as often as the rest."""
    return st.builds(_edited, st.sampled_from(seeds), st.integers(0, 2**64 - 1), st.just(tokens))


def _edited(content: bytes, number: int, tokens: Sequence[bytes]) -> bytes:
    """The edits are a matter of Python's own chance: Hypothesis would repeat the ones that it liked."""
    random, content = Random(number), bytearray(content)
    words = [match.start() for match in re.finditer(rb"\b\w|[^\w\s]", content)] if tokens is TEXT_TOKENS else []
    for _ in range(random.choice([1, 1, 1, 2, 2, 3, 5, 8])):
        place = random.randrange(random.choice([min(len(content), 400), len(content)]) + 1)
        place = random.choice(words) if words and random.random() < 0.8 else place
        values = random.choice([random.choice(tokens), random.randbytes(random.randint(1, 4))])
        match random.choice(["set", "set", "insert", "insert", "copy", "cut", "end"]):
            case "set":
                content[place : place + len(values)] = values
            case "insert":
                content[place:place] = values
            case "copy":
                start = random.randrange(len(content) + 1)
                content[place:place] = content[start : start + random.choice([1, 8, 64, 512])]
            case "cut":
                del content[place : place + random.choice([1, 4, 32])]
            case "end" if random.random() < 0.2:
                del content[place:]
    return bytes(content) or b"\0"


def _other_mosaic(number: int) -> bytes:
    """The mosaic with some of its elements named otherwise, elsewhere, twice or gone, and other values in them."""
    random, root = Random(number), ElementTree.fromstring(MOSAIC)
    for _ in range(random.choice([1, 1, 2, 3, 8])):
        element, other = random.choices(list(root.iter()), k=2)
        match random.choice(["text", "text", "attribute", "attribute", "tag", "copy", "remove"]):
            case "text":
                element.text = random.choice(MOSAIC_WORDS)
            case "attribute":
                name = random.choice([*element.attrib, "subClass", "blockYSize", "dataType"])
                element.set(name, random.choice(MOSAIC_WORDS))
            case "tag":
                element.tag = random.choice([*filter(str.isalpha, MOSAIC_WORDS), other.tag])
            case "copy":
                element.append(deepcopy(other))
            case "remove":
                for child in list(element)[:1]:
                    element.remove(child)
    return ElementTree.tostring(root)


def _replaced(document: dict, values: st.SearchStrategy, dump: Callable[[dict], bytes]) -> st.SearchStrategy[bytes]:
    """A document with other values, or none, in some of its places."""
    changes = st.dictionaries(st.sampled_from(sorted(document)), values, min_size=1, max_size=3)
    dropped = st.sets(st.sampled_from(sorted(document)), max_size=1)
    return st.tuples(changes, dropped).map(
        lambda drawn: dump({key: value for key, value in {**document, **drawn[0]}.items() if key not in drawn[1]})
    )


def _yaml(value: object) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _checkpoint_lines(drawn: tuple[str, list]) -> bytes:
    wrapping, tensors = drawn
    lines = [f"{prefix}{name} {' '.join(map(str, sizes))}" for prefix, name, sizes in tensors]
    return "\n".join([wrapping, *lines]).encode("utf-8", "surrogatepass")
