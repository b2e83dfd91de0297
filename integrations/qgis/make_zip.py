#!/usr/bin/env python3
"""Make dist/terradelta_qgis.zip, which QGIS takes under Plugins, Manage and Install Plugins, Install from ZIP."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path(__file__).resolve().parent / "terradelta_qgis"


def make_zip(out: Path) -> list[str]:
    """Write the plugin's files and the licence; equal sources give equal bytes. Gives the names inside."""
    files = {f"{PLUGIN.name}/{path.name}": path for path in sorted(PLUGIN.iterdir()) if path.suffix in (".py", ".txt")}
    files[f"{PLUGIN.name}/LICENSE"] = ROOT / "LICENSE"
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return list(files)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "terradelta_qgis.zip"
    make_zip(target)
    print(target)
