"""A CuPy that is broken costs a line, and NumPy does the work."""

import os
import subprocess
import sys

import pytest

from tests.scripts import ROOT

CODE = "from fast.device import choose_device; print(*choose_device('auto'))"
BROKEN = {
    "ValueError": "raise ValueError('numpy.dtype size changed,\\nmay indicate...')",
    "AttributeError": "raise AttributeError('module has no attribute x')",
    "OSError": "raise OSError('libcuda.so.1: cannot open shared object file')",
    "ImportError": "raise ImportError('libcublas.so.12 is missing')",
    "a module that it needs": "import fastrlock_that_is_not_there",
    "RuntimeWarning": "import warnings; warnings.warn('old', RuntimeWarning); ndarray = int",
    "an empty folder": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cupy_is_named_and_numpy_is_used(tmp_path, name):
    (tmp_path / "cupy").mkdir()
    if BROKEN[name] is not None:
        (tmp_path / "cupy" / "__init__.py").write_text(BROKEN[name])
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "error"}

    def run(*command):
        asked = [sys.executable, *command]
        return subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True)

    result = run("-c", CODE)
    assert result.returncode == 0, result.stderr
    assert "NumPy on the CPU: CuPy cannot be imported: " in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert run("visualize.py", "--device", "cpu", "--list-layers").returncode == 0
