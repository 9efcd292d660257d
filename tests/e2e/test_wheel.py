"""The wheel that users install: built, put into an environment of its own, and used."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.processes import command, last_json


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `transcriptd` command of a fresh environment. Its libraries are those of the tests' own environment, so
    that nothing is downloaded; the checkout is not on its path."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"))
    venv.create(folder / "env", with_pip=False, symlinks=os.name != "nt")
    bin_folder = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    site = next((folder / "env").rglob("site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", str(wheel)], check=True, capture_output=True, text=True)
    libraries = folder / "libraries"
    libraries.mkdir()
    for name in Path(sysconfig.get_path("purelib")).iterdir():
        if "transcriptd" not in name.name:
            (libraries / name.name).symlink_to(name)
    (site / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    return bin_folder / "transcriptd"


def test_the_installed_command_does_the_main_job_on_its_own_sample(installed: Path, tmp_path: Path) -> None:
    answer = command(tmp_path, "try", "--once", "--json", program=[str(installed)])
    assert answer.returncode == 0, answer.stderr
    found = last_json(answer)
    assert found["synced"]
    assert found["verified"] == found["streams"] > 0
    where = command(
        tmp_path, "-I", "-c", "import agent; print(agent.__file__)", program=[str(installed.with_name("python"))]
    )
    assert str(installed.parent.parent) in where.stdout


def test_the_page_and_the_licence_are_in_the_wheel(installed: Path) -> None:
    site = next(installed.parent.parent.rglob("site-packages"))
    assert list((site / "agent" / "receiver" / "pages").glob("*.html"))
    assert list(site.glob("transcriptd-*.dist-info/licenses/LICENSE"))
