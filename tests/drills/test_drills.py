"""One fault drill of `make drills`, the shortest: a command killed in the middle, run again, compared."""

import subprocess
import sys
from pathlib import Path

import pytest

DRILLS = Path(__file__).parent / "drills.py"


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
def test_a_killed_synthesize_ends_with_the_same_corpus():
    line = [sys.executable, str(DRILLS), "--only", "synthesize", "--faults", "kill", "--rounds", "1"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0 and "1 drills, 0 failures" in done.stdout, done.stdout + done.stderr
