"""Validates STAC items with the schemas that the extensions publish, see README.md."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pystac.validation
from jsonschema import Draft7Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parent
OLDER = {"processing/v1.2.0": "processing/v1.1.0", "raster/v2.0.0": "raster/v1.1.0", "mlm/v1.6.0": "mlm/v1.4.0"}
"""What our items name, and the newest version that a package brings."""
STANDS_IN = {"classification/v1.1.0": "classification/v2.0.0"}
GEOMETRY = Path(pystac.validation.__file__).parent / "jsonschemas" / "geojson" / "Geometry.json"


def validate(item: dict[str, Any]) -> None:
    """Raise ValidationError unless an item is valid by the schema of each extension that it names."""
    for uri in item["stac_extensions"]:
        extension = "/".join(uri.split("/")[-3:-1])
        old = OLDER.get(extension, extension)
        _validator(old).validate(item if old == extension else _older(item, extension, old))


def _uri(extension: str) -> str:
    return f"https://stac-extensions.github.io/{extension}/schema.json"


@cache
def _validator(extension: str) -> Draft7Validator:
    files = {_uri("/".join(path.parts[-3:-1])): path for path in FOLDER.glob("*/*/schema.json")}
    files |= {_uri(name): files[_uri(other)] for name, other in STANDS_IN.items()}
    files["https://geojson.org/schema/Geometry.json"] = GEOMETRY
    known = {uri: json.loads(path.read_text()) for uri, path in files.items()}
    registry = Registry().with_resources((uri, Resource.from_contents(schema)) for uri, schema in known.items())
    return Draft7Validator(known[_uri(extension)], registry=registry)


def _older(item: dict[str, Any], extension: str, old: str) -> dict[str, Any]:
    """The item as an older version of an extension wants it."""
    item = copy.deepcopy(item)
    item["stac_extensions"] = [_uri(old) if uri == _uri(extension) else uri for uri in item["stac_extensions"]]
    if old == "raster/v1.1.0":
        for asset in item["assets"].values():
            if "bands" in asset:
                bands = [{key.removeprefix("raster:"): value for key, value in band.items()} for band in asset["bands"]]
                asset["raster:bands"] = bands
    return item
