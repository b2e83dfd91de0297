"""The scripts that set up .venv, with a stand-in for Python that makes no environment and installs nothing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

FAKE_PYTHON = f"""#!/bin/sh
# Logs what it is asked to do; answers questions about versions as the real one, or as FAKE_VERSION says.
case "$*" in
  "-m venv --clear "*)
    echo venv >>"$LOG"
    rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python"
    for tool in terradelta ruff mypy lint-imports mkdocs; do
      printf '#!/bin/sh\\necho "%s $*"\\n[ "${{FAIL_TOOL-}}" != %s ]\\n' $tool $tool >"$4/bin/$tool"
      chmod +x "$4/bin/$tool"
    done
    ;;
  "-m pip --version") ;;
  "-m pip install "*)
    echo "$*" >>"$LOG"
    exit "${{FAIL_PIP:-0}}"
    ;;
  *walk_packages*) echo "imports with PYTHONPATH=$PYTHONPATH" ;;
  "scripts/draw_rooms "* | "scripts/draw_networks "*) echo "${{1#scripts/}} $2" ;;
  "-m pytest "*) shift 2 && printf '<%s>' "$@" && echo " in $PWD with $OMP_NUM_THREADS thread${{CI:+, CI=$CI}}" ;;
  *sys.version_info\\ \\<*) [ -z "${{FAKE_VERSION-}}" ] ;;
  *"import ensurepip, venv"*) [ -z "${{NO_ENSUREPIP-}}" ] ;;
  *) exec "{sys.executable}" "$@" ;;
esac
"""


class Project:
    """A copy of the scripts in a folder of their own."""

    def __init__(self, root: Path, bin_folder: Path) -> None:
        self.root = root
        self.bin = bin_folder
        self.python = bin_folder / "python3"
        self.log = bin_folder / "log"

    def run(
        self, script: str, *arguments: str, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        settings = {"PATH": f"{self.bin}:/usr/bin:/bin", "PYTHON": str(self.python), "LOG": str(self.log), **env}
        settings = {name: value for name, value in settings.items() if value}
        command = [str(self.root / "scripts" / script), *arguments]
        return subprocess.run(command, cwd=cwd or self.root, env=settings, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        """What was made and installed since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [re.sub(r".*constraints.txt ", "", line) for line in lines]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "a project [1]"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3").write_text(FAKE_PYTHON)
    (bin_folder / "python3").chmod(0o755)
    return Project(root, bin_folder)


FULL = "-r {venv}/dev.txt -e .[all]"
PARALLEL = "<-n><logical><--maxprocesses><4><--dist><loadfile>"
PIP = "-m pip install --quiet --disable-pip-version-check"
COVERAGE = "<--cov><--cov-report=term:skip-covered>"


def full(project: Project) -> str:
    return FULL.format(venv=project.root / ".venv")


def test_demo_installs_the_core_once_and_passes_its_arguments_on(project: Project, tmp_path: Path) -> None:
    first = project.run("demo", "-o", "my out", cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "terradelta demo -o my out\n")
    assert project.calls() == ["venv", "-e ."]
    second = project.run("demo")
    assert (second.stdout, second.stderr) == ("terradelta demo\n", "")
    assert project.calls() == []


def test_test_adds_what_a_demo_lacks_and_demo_takes_what_test_made(project: Project) -> None:
    project.run("demo")
    project.calls()
    assert project.run("test").returncode == 0
    assert project.calls() == [full(project)]
    tools = (project.root / ".venv" / "dev.txt").read_text().split()
    assert {Requirement(tool).name for tool in tools} >= {"pytest", "ruff", "mypy", "import-linter"}
    assert project.run("demo").returncode == 0
    assert project.run("lint").returncode == 0
    assert project.calls() == []


def test_pytest_gets_arguments_whole_and_slow_tests_only_on_request(project: Project, tmp_path: Path) -> None:
    where = f" in {project.root} with 1 thread\n"
    assert project.run("test", "-k", "a or b", cwd=tmp_path).stdout == PARALLEL + "<-m><not slow><-k><a or b>" + where
    assert project.run("test", "-q", "--all", "tests/geo").stdout == PARALLEL + "<-q><tests/geo>" + where
    assert project.run("test", "--all", "--coverage").stdout == PARALLEL + COVERAGE + where


def test_tests_run_in_a_process_a_core_unless_told_otherwise(project: Project) -> None:
    """pytest takes the last -n that it is given, and knows none without the plug-in."""
    ending = f" in {project.root} with 1 thread\n"
    assert project.run("test", "-n", "0").stdout == PARALLEL + "<-m><not slow><-n><0>" + ending
    assert project.run("test", "--all", "-p", "no:xdist").stdout == "<-p><no:xdist>" + ending
    assert project.run("test", "--all", "-pno:xdist").stdout == "<-pno:xdist>" + ending


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed(project: Project, name: str) -> None:
    project.run("lint")
    project.calls()
    with (project.root / name).open("a") as file:
        file.write("# changed\n")
    assert project.run("lint").returncode == 0
    assert project.calls() == [full(project)]


def test_failed_installation_is_said_and_done_again(project: Project) -> None:
    failed = project.run("demo", FAIL_PIP="1")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "the installation did not finish; mend the cause above (no network? disk full?)" in failed.stderr
    assert project.calls() == ["venv", "-e ."]
    assert project.run("demo").returncode == 0
    assert project.calls() == ["-e ."]


def test_failed_update_does_not_pass_for_the_old_state(project: Project) -> None:
    project.run("demo")
    with (project.root / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    project.run("demo", FAIL_PIP="1")
    (project.root / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    project.calls()
    project.run("demo")
    assert project.calls() == ["-e ."]


def test_moved_project_gets_a_new_environment(project: Project) -> None:
    project.run("demo")
    project.calls()
    project.root = project.root.rename(project.root.with_name("moved"))
    assert project.run("demo").returncode == 0
    assert project.calls() == ["venv", "-e ."]


def test_environment_whose_python_does_not_start_is_made_anew(project: Project) -> None:
    project.run("demo")
    project.calls()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.run("demo").returncode == 0
    assert project.calls() == ["venv", "-e ."]


def test_python_that_does_not_start_is_passed_over(project: Project) -> None:
    for name in ("python3.13", "python3.12", "python3.11"):
        (project.bin / name).write_text("#!/bin/sh\necho command not found >&2\nexit 127\n")
        (project.bin / name).chmod(0o755)
    assert project.run("demo", PYTHON="").returncode == 0
    assert project.calls() == ["venv", "-e ."]


def test_no_suitable_python(project: Project) -> None:
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        (project.bin / name).write_text(FAKE_PYTHON)
        (project.bin / name).chmod(0o755)
    found = project.run("demo", PYTHON="", FAKE_VERSION="3.10")
    assert found.returncode == 1
    assert "demo: found no Python 3.11 or newer; install one, or name it: PYTHON=/path/to/python3.12" in found.stderr
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize("made", [False, True])
def test_given_python_that_is_unsuitable_is_refused(project: Project, made: bool) -> None:
    if made:
        project.run("demo")
    found = project.run("demo", PYTHON="/nowhere/python")
    assert found.returncode == 1
    assert "PYTHON=/nowhere/python does not start, or is not Python 3.11 or newer; give one that is" in found.stderr


def test_python_without_ensurepip(project: Project) -> None:
    found = project.run("demo", NO_ENSUREPIP="1")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.returncode == 1
    assert (
        f"cannot make virtual environments; on Debian and Ubuntu: sudo apt install python{version}-venv" in found.stderr
    )
    assert not (project.root / ".venv").exists()


def test_environment_with_an_old_python_is_kept_and_refused(project: Project) -> None:
    project.run("demo")
    (project.root / ".venv" / "terradelta-installed").unlink()
    found = project.run("demo", FAKE_VERSION="3.10")
    assert found.returncode == 1
    assert "needed is Python 3.11 or newer; delete the folder and run this again" in found.stderr
    assert (project.root / ".venv" / "bin" / "python").exists()


def test_environment_of_another_minor_version_than_the_given_python_is_refused(project: Project) -> None:
    project.run("demo")
    other = project.bin / "other"
    other.write_text("#!/bin/sh\necho 3.12.1\n")
    other.chmod(0o755)
    project.calls()
    found = project.run("demo", PYTHON=str(other))
    assert found.returncode == 1
    assert f"but PYTHON={other} is 3.12.1; delete the folder to change over, or unset PYTHON" in found.stderr
    own = f"{sys.version_info.major}.{sys.version_info.minor}.99"
    other.write_text(f"#!/bin/sh\necho {own}\n")
    assert project.run("demo", PYTHON=str(other)).returncode == 0
    assert project.calls() == []


def test_lint_runs_every_check_and_names_the_failed_ones(project: Project) -> None:
    found = project.run("lint", FAIL_TOOL="ruff")
    assert found.returncode == 1
    assert "lint: failed: ruff format\n" in found.stderr
    assert "mypy \n" in found.stdout
    assert "lint-imports \n" in found.stdout
    assert "draw_rooms --check\n" in found.stdout
    assert "draw_networks --check\nmkdocs build --quiet\n" in found.stdout
    assert project.run("lint", "mypy").stdout == "--- mypy\nmypy \n"


def test_lint_refuses_a_check_that_there_is_not(project: Project) -> None:
    found = project.run("lint", "flake8")
    assert found.returncode == 1
    assert "there is no check 'flake8'; there are: ruff, format, mypy, imports, rooms, docs" in found.stderr
    assert project.calls() == []


def test_bounds_are_tested_with_the_lowest_versions_and_imported_with_the_newest(project: Project) -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    if sys.version_info[:2] == (3, 11):
        found = project.run("test_bounds", "lowest")
        assert found.returncode == 0, found.stderr
        assert found.stdout.startswith(
            "--- lowest\n<-q><-p><no:cacheprovider><-o><filterwarnings=default><-m><not slow><-k>"
        )
        core = project.root / ".venv-lowest" / "core.txt"
        assert project.calls() == ["venv", f"{PIP} -r {core} pytest hypothesis"]
        pins = [Requirement(line) for line in core.read_text().splitlines()]
        bounds = [Requirement(each) for each in needed]
        assert [str(pin).replace("==", ">=") for pin in pins] == [str(bound) for bound in bounds]
        assert project.run("test_bounds", "lowest").returncode == 0
        assert project.calls() == []  # it is ready
    shutil.copy(project.python, project.bin / "python3.15")
    found = project.run("test_bounds", "newest")
    assert found.stdout == "--- newest\nimports with PYTHONPATH=src\n"
    core = project.root / ".venv-newest" / "core.txt"
    assert project.calls() == ["venv", f"{PIP} -r {core}"]
    assert core.read_text().splitlines() == needed


def test_bounds_that_fail_are_named(project: Project) -> None:
    shutil.copy(project.python, project.bin / "python3.15")
    found = project.run("test_bounds", "newest", FAIL_PIP="1")
    assert found.returncode == 1
    assert "test_bounds: failed: newest\n" in found.stderr
    assert "not 'both'" in project.run("test_bounds", "both").stderr


def without_bounds(project: Project) -> None:
    shutil.copytree(ROOT / ".ci", project.root / ".ci")
    (project.root / "scripts" / "test_bounds").write_text("#!/bin/sh\nexit ${FAIL_BOUNDS:-0}\n")


@pytest.mark.parametrize(("failing", "code"), [("", 0), ("mypy", 1)])
def test_ci_fails_when_lint_fails_and_ends_with_the_last_line_of_the_tests(
    project: Project, failing: str, code: int
) -> None:
    without_bounds(project)
    found = project.run("../.ci/run", FAIL_TOOL=failing)
    assert found.returncode == code
    assert (
        found.stdout.splitlines()[-1] == f"{PARALLEL}<-m><not slow>{COVERAGE} in {project.root} with 1 thread, CI=true"
    )
    found = project.run("../.ci/run", "tests/geo", FAIL_TOOL=failing)  # a part of the tests has no floor
    assert (
        found.stdout.splitlines()[-1] == f"{PARALLEL}<-m><not slow><tests/geo> in {project.root} with 1 thread, CI=true"
    )


def test_ci_fails_when_the_tests_fail(project: Project) -> None:
    without_bounds(project)
    (project.root / "scripts" / "test").write_text("#!/bin/sh\necho 1 failed\nexit 1\n")
    found = project.run("../.ci/run")
    assert found.returncode == 1
    assert found.stdout.splitlines()[-1] == "1 failed"


def test_ci_fails_when_the_bounds_fail(project: Project) -> None:
    without_bounds(project)
    assert project.run("../.ci/run", FAIL_BOUNDS="1").returncode == 1


def test_constraints_pin_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
            pins[canonicalize_name(name)] = version
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    wanted = [Requirement(text) for group in [*groups, project["dependency-groups"]["dev"]] for text in group]
    wrong = [
        str(requirement)
        for requirement in wanted
        if requirement.name != "terradelta"
        and not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert wrong == []


def test_scripts_can_be_run() -> None:
    for name in (
        "scripts/demo",
        "scripts/test",
        "scripts/lint",
        "scripts/draw_networks",
        "scripts/draw_rooms",
        "scripts/test_bounds",
        ".ci/run",
    ):
        assert os.access(ROOT / name, os.X_OK), name
