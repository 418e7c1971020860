"""What pip installs: every file of both packages and the example, the page's and the migrations' too."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"graphpass": "graphpass", "service": "service", "examples/fashion_mnist": "service/examples/fashion_mnist"}
BUILT_FROM = {".cc", ".cu", ".h", ".txt", ".so"}  # of graphpass/runtime/native: sources of the library, and itself


@pytest.mark.slow  # pip downloads what builds it
def test_the_wheel_has_every_file(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path))
    subprocess.run([*command, "--config-settings=wheel.cmake=false", str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("graphpass-*.whl")
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        os.path.join(inside, path.relative_to(ROOT / folder))
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not (path.parent.name == "native" and path.suffix in BUILT_FROM)
    }
    assert found == expected
    assert {"service/page/index.html", "service/storage/migrations/env.py"} < found
