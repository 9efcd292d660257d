"""How much is tried. TRANSCRIPTD_FAULTS scales it: 1 is what CI does, 10 is a long evening, 0.1 a quick look."""

import os
import sys

import pytest

SCALE = float(os.environ.get("TRANSCRIPTD_FAULTS", "1"))

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, traces and counts as Linux does")


def amount(in_ci: int) -> int:
    return max(1, round(in_ci * SCALE))
