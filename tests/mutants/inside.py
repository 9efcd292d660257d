"""Runs tests within a copy of the repository, and makes sure that it is the copy which is tested.

python -m tests.mutants.inside COPY NODEID...     exit status: pytest's, or 70 where another `agent` was imported
"""

import sys
from pathlib import Path

import pytest

import agent
import tests

NOT_THE_COPY = 70
"""Unlike any exit status of pytest: what was imported is not what was changed."""


def main(copy: Path, nodeids: list[str]) -> int:
    for package in (agent, tests):
        if not Path(package.__file__ or "").resolve().is_relative_to(copy):
            sys.stdout.write(f"{package.__name__} was imported from {package.__file__}, not from {copy}\n")
            return NOT_THE_COPY
    quiet = ["-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"]
    return int(pytest.main([*quiet, *nodeids]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
