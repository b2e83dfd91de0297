"""The public archives: what each is, how it unpacks, how many pairs it should hold, and who may use it.

Sources of the layouts: the archives' own pages and README files, and loaders that others wrote for them (torchgeo's for
OSCD, CDLab's for CDD and OSCD). Counts are those of the archives, which are not always the papers'.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from terradelta.errors import DataError
from terradelta.lab.data.folder import LEVIR, FolderNames
from terradelta.lab.data.images import by_stem, read_header
from terradelta.lab.data.labels import LabelCoding
from terradelta.lab.data.layouts import Layout, SplitFolders, folders_within
from terradelta.lab.data.scenes import GoogleDataGz, Oscd, WhuCd

__all__ = ["ARCHIVES", "Archive", "count_notes", "find_archive", "terms"]

_NUMBERED = re.compile(r"(.*?)(\d+)$")
_GAPS_NAMED = 5


@dataclass(frozen=True)
class Archive:
    """One public archive."""

    key: str
    """The name before ``:`` in a location."""
    title: str
    pairs: dict[str, int]
    """Pairs in each split."""
    size: str
    """Of a pair, pixels, (height, width)."""
    gsd: str
    """Ground sampling distance."""
    shows: str
    """Which change is labelled, and where."""
    layout: str
    """What lies under the folder."""
    licence: str
    """The terms as far as the source states them."""
    citation: str
    source: str
    """Page to get it from."""
    find: Callable[[Sequence[Path]], Layout | None]
    """The archive's layout at one of some folders, the nearest first; None where it is not."""
    note: str = ""
    """What a user must know about splits or labels."""


def terms(archive: Archive | None) -> dict[str, str]:
    """Licence, citation and source, to go with what is made of an archive; nothing for other data."""
    if archive is None:
        return {}
    return {"licence": archive.licence, "citation": archive.citation, "page": archive.source}


def find_archive(root: Path) -> tuple[Archive, Layout] | None:
    """The archive that a folder, or a folder inside it, is; None if it is none of them.

    Raises:
        DataError: if there are two archives.
    """
    folders = tuple(folders_within(root))
    found = [(archive, layout) for archive in ARCHIVES.values() if (layout := archive.find(folders)) is not None]
    if len(found) > 1:
        (first, one), (second, other) = found[:2]
        raise DataError(
            f"{root} holds {first.title} in {one.root} and {second.title} in {other.root}; name one of the folders, "
            f"or put the name in front: {first.key}:{root}"
        )
    return found[0] if found else None


def count_notes(archive: Archive, split: str, names: list[str]) -> list[str]:
    """What differs from the archive's count, as sentences; empty where nothing does.

    Args:
        archive: the archive.
        split: one of its splits.
        names: the pairs found.
    """
    expected = archive.pairs.get(split)
    if expected is None or expected == len(names):
        return []
    gaps = _gaps(names)
    named = f"; the numbering lacks {', '.join(gaps[:_GAPS_NAMED])}" if gaps else ""
    more = f" and {len(gaps) - _GAPS_NAMED} more" if len(gaps) > _GAPS_NAMED else ""
    difference = f"{abs(len(names) - expected)} {'fewer' if len(names) < expected else 'more'}"
    return [
        f"{archive.title} has {expected} pairs in {split}, but here are {len(names)}: {difference}{named}{more}. "
        "Scores on other pairs than the official ones cannot be compared with published ones"
    ]


def _gaps(names: list[str]) -> list[str]:
    """Names that a numbering without holes would have; none where the names are not numbered alike."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    if not names or not all(found) or len({match[1] for match in found if match}) != 1:
        return []
    digits = [match[2] for match in found if match]
    numbers = {int(text) for text in digits}
    width = len(digits[0]) if len({len(text) for text in digits}) == 1 else 0
    prefix = found[0][1] if found[0] else ""
    return [f"{prefix}{n:0{width}d}" for n in range(min(numbers), max(numbers)) if n not in numbers]


def _split_folders(
    title: str, names: FolderNames, accepts: Callable[[SplitFolders], bool] = lambda _: True, inside: str = ""
) -> Callable[[Sequence[Path]], Layout | None]:
    """Finds three folders of such names; ``inside`` is preferred where more than one place has them."""

    def find(folders: Sequence[Path]) -> Layout | None:
        found = (SplitFolders(folder, names, title) for folder in folders)
        fitting = [layout for layout in found if layout.splits and accepts(layout)]
        return min(fitting, key=lambda layout: inside not in layout.root.as_posix(), default=None)

    return find


def _first_image(layout: SplitFolders) -> Path | None:
    for split in layout.splits:
        images = by_stem(layout.root / split / layout.names.before)
        if images:
            return next(iter(images.values()))
    return None


def _side_is(side: int) -> Callable[[SplitFolders], bool]:
    """Whether the first image has this height and width: two archives differ in nothing else."""

    def accepts(layout: SplitFolders) -> bool:
        try:
            image = _first_image(layout)
            return image is not None and read_header(image).shape == (side, side)
        except DataError:
            return False

    return accepts


def _named_by_split(layout: SplitFolders) -> bool:
    """LEVIR-CD calls its images ``train_1``, ``val_1`` and ``test_1``; other data in its layout have other names."""
    try:
        first = {split: next(iter(by_stem(layout.root / split / "A")), "") for split in layout.splits}
    except DataError:
        return False
    return all(re.fullmatch(rf"{split}_\d+", name) for split, name in first.items())


def _find_gz(folders: Sequence[Path]) -> Layout | None:
    found = (folder for folder in folders if all((folder / part).is_dir() for part in GoogleDataGz.folders))
    return next((GoogleDataGz(folder, "Google Data GZ") for folder in found), None)


def _find_whu(folders: Sequence[Path]) -> Layout | None:
    parts = ("2012/whole_image", "2016/whole_image", "change_label")
    found = (folder for folder in folders if all((folder / part).is_dir() for part in parts))
    return next((WhuCd(folder, "WHU-CD") for folder in found), None)


def _find_oscd(folders: Sequence[Path]) -> Layout | None:
    dates = [folder for folder in folders if folder.name == "imgs_1_rect"]
    return Oscd(dates[0].parent.parent, "OSCD") if dates else None


_LEVIR_CD = Archive(
    key="levir-cd",
    title="LEVIR-CD",
    pairs={"train": 445, "val": 64, "test": 128},
    size="1024 x 1024",
    gsd="0.5 m",
    shows="buildings that appeared or went, 20 regions of Texas, 2002 to 2018",
    layout="{train,val,test}/{A,B,label}/train_1.png",
    licence="non-commercial research only",
    citation=(
        "H. Chen, Z. Shi: A Spatial-Temporal Attention-Based Method and a New Dataset for Remote Sensing Image Change "
        "Detection. Remote Sensing 12(10), 1662, 2020. doi 10.3390/rs12101662"
    ),
    source="https://justchenhao.github.io/LEVIR/",
    find=_split_folders("LEVIR-CD", LEVIR, _named_by_split),
)
_CDD = Archive(
    key="cdd",
    title="CDD",
    pairs={"train": 10000, "val": 2998, "test": 3000},
    size="256 x 256",
    gsd="0.03 to 1 m",
    shows="objects that appeared or went, seasons ignored (SVCD, CCD in other papers)",
    layout="ChangeDetectionDataset/Real/subset/{train,val,test}/{A,B,OUT}/00000.jpg",
    licence="none stated by its source; ask the authors",
    citation=(
        "M. A. Lebedev, Y. V. Vizilter, O. V. Vygolov, V. A. Knyaz, A. Y. Rubis: Change Detection in Remote Sensing "
        "Images Using Conditional Adversarial Networks. ISPRS Archives XLII-2, 565-571, 2018. "
        "doi 10.5194/isprs-archives-XLII-2-565-2018"
    ),
    source="https://drive.google.com/file/d/1GX656JqqOyBi_Ef0w65kDGVto-nHrNs9",
    find=_split_folders("CDD", FolderNames("A", "B", "OUT", LabelCoding.LOSSY), inside="Real/subset"),
    note=(
        "Papers print 3,000 pairs for val; the archive holds 2,998. Labels are JPEG files and cut at 128. The "
        "synthetic parts are read where they are named: cdd:DIR/Model/with_shift"
    ),
)
_GZ = Archive(
    key="gz",
    title="Google Data GZ",
    pairs={"train": 9, "val": 6, "test": 4},
    size="1006 x 1168 to 4936 x 5224",
    gsd="0.55 m",
    shows="buildings above all, suburbs of Guangzhou, 2006 to 2019",
    layout="{T1,T2}/P_GZ_test1_2013_1221_Level_18.tif, labels_change/P_GZ_test1_2013_2018.png",
    licence="none stated by its source; ask the authors",
    citation=(
        "D. Peng, L. Bruzzone, Y. Zhang, H. Guan, H. Ding, X. Huang: SemiCDNet: A Semisupervised Convolutional Neural "
        "Network for Change Detection in High Resolution Remote-Sensing Images. IEEE TGRS, 2020. "
        "doi 10.1109/TGRS.2020.3011913"
    ),
    source="https://github.com/daifeng2016/Change-Detection-Dataset-for-High-Resolution-Satellite-Imagery",
    find=_find_gz,
    note=(
        "No list of splits was published: scenes 1 to 9 by number are train, the next 6 val, the last 4 test. "
        "list/{split}.txt with names such as P_GZ_test1 says otherwise"
    ),
)
_DSIFN = Archive(
    key="dsifn",
    title="DSIFN",
    pairs={"train": 3600, "val": 340, "test": 48},
    size="512 x 512",
    gsd="about 2 m, by common description",
    shows="land cover and buildings, six cities of China",
    layout="{train,val,test}/{t1,t2,mask}/0.jpg",
    licence="non-commercial scientific research only",
    citation=(
        "C. Zhang, P. Yue, D. Tapete, L. Jiang, B. Shangguan, L. Huang, G. Liu: A deeply supervised image fusion "
        "network for change detection in high resolution bi-temporal remote sensing images. ISPRS J. Photogramm. "
        "Remote Sens. 166, 183-200, 2020. doi 10.1016/j.isprsjprs.2020.06.003"
    ),
    source=(
        "https://github.com/GeoZcx/A-deeply-supervised-image-fusion-network-for-change-detection-in-remote-sensing-"
        "images/tree/master/dataset"
    ),
    find=_split_folders("DSIFN", FolderNames("t1", "t2", "mask")),
    note="Training images are augmented already: ten copies of 394 scenes, rotated",
)
_SYSU = Archive(
    key="sysu-cd",
    title="SYSU-CD",
    pairs={"train": 12000, "val": 4000, "test": 4000},
    size="256 x 256",
    gsd="0.5 m",
    shows="buildings, roads, vegetation, works and sea, Hong Kong, 2007 to 2014",
    layout="{train,val,test}/{time1,time2,label}/00000.png",
    licence="none stated by its source; ask the authors",
    citation=(
        "Q. Shi, M. Liu, S. Li, X. Liu, F. Wang, L. Zhang: A Deeply Supervised Attention Metric-Based Network and an "
        "Open Aerial Image Dataset for Remote Sensing Change Detection. IEEE TGRS, 2021. doi 10.1109/TGRS.2021.3085870"
    ),
    source="https://github.com/liumency/SYSU-CD",
    find=_split_folders("SYSU-CD", FolderNames("time1", "time2", "label"), _side_is(256)),
)
_WHU = Archive(
    key="whu-cd",
    title="WHU-CD",
    pairs={"train": 1, "val": 1, "test": 1, "trainval": 1},
    size="two areas of one scene of 15354 x 32507",
    gsd="0.2 m",
    shows="buildings, Christchurch, 2012 to 2016",
    layout="{2012,2016}/whole_image/{train,test}/image/2012_train.tif, change_label/{train,test}/change_label.tif",
    licence="not known here; read the terms on its page",
    citation=(
        "S. Ji, S. Wei, M. Lu: Fully Convolutional Networks for Multisource Building Extraction From an Open Aerial "
        "and Satellite Imagery Data Set. IEEE TGRS 57(1), 574-586, 2019. doi 10.1109/TGRS.2018.2858817"
    ),
    source="http://gpcv.whu.edu.cn/data/building_dataset.html",
    find=_find_whu,
    note=(
        "The archive has no validation data: the lowest eighth of the training area is val, the rest train, all of it "
        "trainval. Copies cut at random by others have other splits, and are read as plain folders"
    ),
)
_CLCD = Archive(
    key="clcd",
    title="CLCD",
    pairs={"train": 360, "val": 120, "test": 120},
    size="512 x 512",
    gsd="0.5 to 2 m",
    shows="cropland, Guangdong, 2017 to 2019",
    layout="{train,val,test}/{time1,time2,label}/00000.png",
    licence="none stated by its source; ask the authors",
    citation=(
        "M. Liu, Z. Chai, H. Deng, R. Liu: A CNN-Transformer Network With Multiscale Context Aggregation for "
        "Fine-Grained Cropland Change Detection. IEEE JSTARS 15, 4297-4306, 2022. doi 10.1109/JSTARS.2022.3177235"
    ),
    source="https://github.com/liumency/CropLand-CD",
    find=_split_folders("CLCD", FolderNames("time1", "time2", "label"), _side_is(512)),
)
_S2LOOKING = Archive(
    key="s2looking",
    title="S2Looking",
    pairs={"train": 3500, "val": 500, "test": 1000},
    size="1024 x 1024",
    gsd="0.5 to 0.8 m, off nadir",
    shows="buildings of rural areas, world-wide",
    layout="{train,val,test}/{Image1,Image2,label}/1.png",
    licence="none stated by its source; ask the authors",
    citation=(
        "L. Shen et al.: S2Looking: A Satellite Side-Looking Dataset for Building Change Detection. Remote Sensing "
        "13(24), 5094, 2021. doi 10.3390/rs13245094"
    ),
    source="https://github.com/S2Looking/Dataset",
    find=_split_folders("S2Looking", FolderNames("Image1", "Image2", "label")),
    note="label joins what was built and what went; label1 and label2, which tell them apart, are not read",
)
_OSCD = Archive(
    key="oscd",
    title="OSCD",
    pairs={"train": 11, "val": 3, "test": 10, "trainval": 14},
    size="about 600 x 600",
    gsd="10 m, coarser bands resampled",
    shows="urban change, 24 cities, 13 bands of Sentinel-2, 2015 to 2018",
    layout=(
        "Onera Satellite Change Detection dataset - Images/CITY/imgs_{1,2}_rect/B01.tif, "
        "... - {Train,Test} Labels/CITY/cm/cm.png"
    ),
    licence="not known here; read the terms on its page. Contains modified Copernicus Sentinel data",
    citation=(
        "R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau: Urban Change Detection for Multispectral Earth Observation "
        "Using Convolutional Neural Networks. IGARSS 2018. doi 10.1109/IGARSS.2018.8518015"
    ),
    source="https://rcdaudt.github.io/oscd/",
    find=_find_oscd,
    note=(
        "Bands are stacked in the order B01 to B08, B8A, B09 to B12. The archive has no validation data: the last "
        "three cities of train.txt are val, the first eleven train, all of them trainval"
    ),
)
ARCHIVES: dict[str, Archive] = {
    archive.key: archive for archive in (_LEVIR_CD, _CDD, _GZ, _DSIFN, _SYSU, _WHU, _CLCD, _S2LOOKING, _OSCD)
}
"""All archives by key."""
