"""Workers end with their parent, whatever ends it; SIGTERM is as good as Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drills import descendants, left_after

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")

ROOT = Path(__file__).resolve().parents[2]
JOBS = """
import sys, time
from unittest import mock
from joblib import delayed
import dsaml.cli.main as command
from dsaml.experiment.run import parallel

def job(seconds):
    print("working", flush=True)
    time.sleep(seconds)

with mock.patch.object(command, "app", lambda arguments: parallel(2)(delayed(job)(60) for _ in range(4))):
    command.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["synthesize", "jobs"])
def test_no_worker_outlives_its_command(kind, number, tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    lines = {"synthesize": ["-m", "dsaml", "synthesize", str(tmp_path / "corpus")], "jobs": [str(tmp_path / "jobs.py")]}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("wb") as said:
        command = subprocess.Popen([sys.executable, *lines[kind]], env=environment, stdout=said, stderr=said)

    def at_work() -> bool:
        songs = (tmp_path / "corpus/DEAM_audio/MEMD_audio").glob("*.mp3")
        return len(list(songs)) > 2 if kind == "synthesize" else (tmp_path / "said").read_text().count("working") == 2

    end = time.monotonic() + 300
    while not at_work():
        assert command.poll() is None and time.monotonic() < end, (tmp_path / "said").read_text()
        time.sleep(0.1)
    children = descendants(command.pid)
    assert len(children) >= 2
    command.send_signal(number)
    code = command.wait(120)  # after SIGTERM the songs in work are finished
    assert left_after(children, 5) == []
    text = (tmp_path / "said").read_text()
    if number == signal.SIGTERM:
        assert code == 143 and "stopped; what was finished is kept" in text and "Traceback" not in text, text
    else:
        assert code == -signal.SIGKILL
