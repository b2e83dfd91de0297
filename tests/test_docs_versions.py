"""scripts/docs_versions builds several versions as one site: slow."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def build(clone: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "scripts/docs_versions", *names]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with what lies here, tagged v0.9.0, and a second version with another word in the glossary."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here")
    clone = tmp_path_factory.mktemp("versions") / "clone"
    git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    for name in ("mkdocs.yml", ".gitignore"):
        shutil.copy(ROOT / name, clone / name)
    for name in ("docs", "scripts", "src"):
        leave = shutil.ignore_patterns("__pycache__", "node_modules", "bundle", "site")
        shutil.copytree(ROOT / name, clone / name, dirs_exist_ok=True, ignore=leave)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(clone, "tag", "v0.9.0")
    with (clone / "docs" / "glossary.md").open("a", encoding="utf-8") as file:
        file.write("\nA word that came later.\n")
    git(clone, "commit", "--quiet", "-am", "two")
    git(clone, "tag", "v0.10.0")
    return clone


def test_both_versions_stand_in_one_site_and_the_higher_is_the_latest(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    for name in ("v0.10.0", "v0.9.0"):  # the second run keeps what the first one made
        done = build(clone, name)
        assert done.returncode == 0, done.stderr
    site = clone / "site_versions"
    listed = json.loads((site / "versions.json").read_text())
    assert [(each["version"], each["aliases"]) for each in listed] == [("0.10.0", ["latest"]), ("0.9.0", [])]
    pages = [(site / version / "glossary.html").read_text() for version in ("0.10.0", "0.9.0")]
    assert ["A word that came later." in page for page in pages] == [True, False]
    assert all(json.loads(_settings(page))["version"]["provider"] == "mike" for page in pages)
    assert 'url=../0.10.0/glossary.html"' in (site / "latest" / "glossary.html").read_text()
    assert 'url=latest/"' in (site / "index.html").read_text()
    assert git(clone, "rev-parse", "HEAD") == head
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "ls-tree", "-r", "--name-only", "gh-pages").count("versions.json\n") == 1


def _settings(page: str) -> str:
    """What a page tells the theme."""
    found = re.search(r'<script id="__config" type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found
    return found[1]


def test_what_is_no_version_is_refused(clone: Path) -> None:
    done = build(clone, "v7")
    assert done.returncode == 1
    assert done.stderr == "v7 is no tag, branch or commit; tags: v0.10.0, v0.9.0\n"


def test_a_version_with_a_broken_link_is_refused(clone: Path) -> None:
    git(clone, "checkout", "--quiet", "-b", "broken")
    with (clone / "docs" / "glossary.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    git(clone, "commit", "--quiet", "-am", "broken")
    git(clone, "checkout", "--quiet", "-")
    before = git(clone, "for-each-ref", "refs/heads/gh-pages")
    done = build(clone, "broken")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert git(clone, "for-each-ref", "refs/heads/gh-pages") == before
