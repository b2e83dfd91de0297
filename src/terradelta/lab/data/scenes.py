"""Archives of whole scenes, which do not lie in folders of splits: Google Data GZ, WHU-CD and OSCD."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from terradelta.errors import DataError
from terradelta.geo.grid import Tile
from terradelta.lab.data.folder import Scan, match_names
from terradelta.lab.data.images import by_stem, read_header
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.data.layouts import Layout
from terradelta.lab.data.pairs import PairFiles

__all__ = ["OSCD_BANDS", "OSCD_CITIES", "GoogleDataGz", "Oscd", "WhuCd"]

OSCD_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Sentinel-2's bands in the order in which they are stacked."""
OSCD_CITIES = {
    "train": (
        *("aguasclaras", "bercy", "bordeaux", "nantes", "paris", "rennes", "saclay_e", "abudhabi", "cupertino", "pisa"),
        *("beihai", "hongkong", "beirut", "mumbai"),
    ),
    "test": (
        *("brasilia", "montpellier", "norcia", "rio", "saclay_w", "valencia", "dubai", "lasvegas", "milano"),
        "chongqing",
    ),
}
"""The authors' split, in the order of their train.txt and test.txt."""
_OSCD_VAL = 3
_GZ_SCENE = re.compile(r"(.*test(\d+))(?:_.*)?", re.IGNORECASE)
_GZ_COUNTS = {"train": 9, "val": 6, "test": 4}
_WHU_VAL_SHARE = 8


class GoogleDataGz(Layout):
    """``T1``, ``T2`` and ``labels_change``, one scene a file, with dates in the names: ``P_GZ_test1_2013_1221_...``.

    The archive has no list of splits. The papers print 9, 6 and 4 scenes but not which; here they are the first nine,
    the next six and the last four by number. ``list/{split}.txt`` with names such as ``P_GZ_test1`` says otherwise.
    """

    folders = ("T1", "T2", "labels_change")

    @property
    def splits(self) -> tuple[str, ...]:
        """The three."""
        return tuple(_GZ_COUNTS)

    def scan(self, split: str) -> Scan:
        """What lies in a split.

        Raises:
            DataError: if a name holds no number of a scene, or a scene has two images of one date.
        """
        scenes = {part: _scenes(self.root / part) for part in self.folders}
        names = {number: name for part in scenes.values() for number, (name, _) in part.items()}
        by_name = {part: {names[n]: path for n, (_, path) in found.items()} for part, found in scenes.items()}
        return match_names(by_name, self._chosen(split, [names[n] for n in sorted(names)]), only=True)

    def _chosen(self, split: str, names: Sequence[str]) -> list[str]:
        """The scenes of a split, out of all in the order of their numbers."""
        listing = self.root / "list" / f"{split}.txt"
        if listing.is_file():
            wanted = {line.strip() for line in listing.read_text().splitlines() if line.strip()}
            unknown = sorted(wanted.difference(names))
            if unknown:
                raise DataError(f"{listing} names {unknown[0]}, which is none of {', '.join(names)}")
            return [name for name in names if name in wanted]
        start = {"train": 0, "val": _GZ_COUNTS["train"], "test": _GZ_COUNTS["train"] + _GZ_COUNTS["val"]}[split]
        return list(names[start:] if split == "test" else names[start : start + _GZ_COUNTS[split]])


def _scenes(folder: Path) -> dict[int, tuple[str, Path]]:
    """Name and image of each scene of a folder, by number."""
    scenes: dict[int, tuple[str, Path]] = {}
    for stem, path in by_stem(folder).items():
        match = _GZ_SCENE.fullmatch(stem)
        if match is None:
            raise DataError(f"{path}: a name without the number of a scene; such as P_GZ_test1_2013_1221_Level_18.tif")
        number = int(match[2])
        if number in scenes:
            raise DataError(f"{folder} holds two images of scene {number}, {scenes[number][1].name} and {path.name}")
        scenes[number] = match[1], path
    return scenes


class WhuCd(Layout):
    """``2012`` and ``2016`` with ``whole_image/{split}/image``, and ``change_label/{split}``: one scene a split.

    The archive has no validation data. Here the lowest eighth of the rows of the training scene is ``val``, the rest
    ``train``, and all of it ``trainval``.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        """The three and ``trainval``."""
        return ("train", "val", "test", "trainval")

    def scan(self, split: str) -> Scan:
        """What lies in a split.

        Raises:
            DataError: if a folder holds more than one image, or an image cannot be opened.
        """
        area = "test" if split == "test" else "train"
        folders = (
            *(self.root / year / "whole_image" / area / "image" for year in ("2012", "2016")),
            self.root / "change_label" / area,
        )
        found = [_only_image(folder) for folder in folders]
        before, after, label = found
        if before is None or after is None or label is None:
            missing = (f"{folder}/*.tif" for folder, path in zip(folders, found, strict=True) if path is None)
            return Scan((), tuple(missing), tuple(path for path in found if path is not None))
        window = None
        if split in ("train", "val"):
            height, width = read_header(before).shape
            cut = height - height // _WHU_VAL_SHARE
            window = Tile(0, 0, cut, width) if split == "train" else Tile(cut, 0, height - cut, width)
        return Scan((PairFiles(f"whu_{split}", before, after, label, window=window),))


def _only_image(folder: Path) -> Path | None:
    images = list(by_stem(folder).values()) if folder.is_dir() else []
    if len(images) > 1:
        raise DataError(f"{folder} holds {len(images)} images where WHU-CD has one; remove those that are not its own")
    return images[0] if images else None


class Oscd(Layout):
    """One folder a city with ``imgs_1_rect`` and ``imgs_2_rect`` (a file a band), and ``cm`` in the folders of labels.

    The archive has 14 cities to train on and 10 to test on. Here the last three of its train.txt are ``val``, the
    others ``train``, and all 14 ``trainval``.
    """

    def listing(self, split: str) -> str:
        """The authors' own lists."""
        return "test.txt" if split == "test" else "train.txt"

    @property
    def splits(self) -> tuple[str, ...]:
        """The three and ``trainval``."""
        return ("train", "val", "test", "trainval")

    def scan(self, split: str) -> Scan:
        """What lies in a split."""
        pairs, missing, lone = [], [], []
        for city in self._cities(split):
            dates = [self.root / city / f"imgs_{date}_rect" for date in (1, 2)]
            label = self._label(city)
            lacks = [f"{city}/{date.name}/{band}" for date in dates for band in _lacking(date)]
            lacks += [] if label else [f"{city}/cm/cm.png"]
            if label is None or lacks:
                missing += lacks
                lone += [path for date in dates if date.is_dir() for path in by_stem(date).values()]
            else:
                coding = LabelCoding.NONZERO if label.suffix == ".png" else LabelCoding.ONE_TWO
                pairs.append(PairFiles(city, dates[0], dates[1], label, coding))
        return Scan(tuple(pairs), tuple(missing), tuple(lone))

    def _cities(self, split: str) -> list[str]:
        listing = self.root / self.listing(split)
        cities = list(OSCD_CITIES["test" if split == "test" else "train"])
        if listing.is_file():
            cities = [city for city in re.split(r"[,\s]+", listing.read_text()) if city]
        return {"train": cities[:-_OSCD_VAL], "val": cities[-_OSCD_VAL:]}.get(split, cities)

    def _label(self, city: str) -> Path | None:
        """The change map: ``cm.png`` (0 and 255), which the authors' own code reads, or else the GeoTIFF (1 and 2)."""
        for folder in _label_folders(self.root):
            for name in ("cm.png", f"{city}-cm.tif"):
                if (folder / city / "cm" / name).is_file():
                    return folder / city / "cm" / name
        return None


def _label_folders(images: Path) -> Iterable[Path]:
    beside = sorted(path for path in images.parent.iterdir() if path.is_dir() and "label" in path.name.lower())
    return *beside, images


def _lacking(folder: Path) -> list[str]:
    """Bands that a folder has no file of; all where there is no folder."""
    there = set(by_stem(folder)) if folder.is_dir() else set()
    return [band for band in OSCD_BANDS if band not in there]
