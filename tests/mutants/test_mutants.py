"""Each mutant of the table is caught by the tests that it names, which pass without it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.workshop import Run, Workshop, complaint, mutated

LEAST = 30


FILES = sorted({one.file for one in MUTANTS})

PARTS = 10
"""A process for each file would take a minute only to start."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop(REPOSITORY, tmp_path_factory.mktemp("mutants") / "copy") as made:
        yield made


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name.replace(" ", "-") for one in MUTANTS])
def test_it_is_caught(mutant: Mutant, workshop: Workshop) -> None:
    run = workshop.run(mutant)
    assert complaint(mutant, run) == "", run.output


@pytest.mark.mutants
@pytest.mark.parametrize("part", range(PARTS))
def test_without_a_mutant_the_same_tests_pass(part: int, workshop: Workshop) -> None:
    tests = sorted({test for one in MUTANTS for test in one.caught_by})
    run = workshop.run_unchanged(tests[part::PARTS])
    assert run.status == 0, run.output


@pytest.mark.parametrize("file", FILES)
def test_the_table_fits_the_code(file: str) -> None:
    source = (REPOSITORY / file).read_text(encoding="utf-8")
    for mutant in MUTANTS:
        if mutant.file == file:
            assert mutated(source, mutant) != source


def test_the_table_has_many_mutants_and_each_once() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= LEAST
    assert len({(one.file, one.text, one.becomes) for one in MUTANTS}) == len(MUTANTS)
    assert all(one.caught_by for one in MUTANTS)


SOURCE = "def double(number):\n    return number * 2\n"
MUTANT = Mutant("add nothing", "double.py", "number * 2", "number", ("tests/test_double.py::test_it",))


def test_a_text_that_is_not_there_or_there_twice_is_told() -> None:
    for source, times in (("", 0), (SOURCE * 2, 2)):
        with pytest.raises(ValueError, match=f"double.py holds the text of this mutant {times} times"):
            mutated(source, MUTANT)


def test_what_is_no_python_is_no_mutant() -> None:
    with pytest.raises(ValueError, match="no Python any more"):
        mutated(SOURCE, MUTANT._replace(becomes="("))


@pytest.mark.parametrize(
    ("status", "failed", "told"),
    [
        (1, ["tests/test_double.py::test_it"], ""),
        (1, ["tests/test_double.py::test_it[2]", "tests/test_other.py::test_it"], ""),
        (1, ["tests/test_double.py::test_it_too"], "not caught by tests/test_double.py::test_it"),
        (0, [], "exit status 0"),
        (2, [], "exit status 2"),
        (4, [], "exit status 4"),
        (5, [], "exit status 5"),
        (70, [], "exit status 70"),
        (None, [], "not done"),
    ],
)
def test_only_failing_tests_catch(status: int | None, failed: list[str], told: str) -> None:
    said = complaint(MUTANT, Run(status, frozenset(failed), ""))
    assert said.startswith(told)
    assert bool(said) == bool(told)


def test_a_mutant_is_made_in_a_copy_and_leaves_nothing_behind(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("agent", "tests/mutants"):
        (repository / name).mkdir(parents=True)
        (repository / name / "__init__.py").touch()
    (repository / "tests" / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("inside.py"), repository / "tests" / "mutants")
    (repository / "pyproject.toml").touch()
    (repository / "agent" / "double.py").write_text(SOURCE, encoding="utf-8")
    (repository / "tests" / "test_double.py").write_text(
        "from agent.double import double\n\ndef test_it():\n    assert double(3) == 6\n", encoding="utf-8"
    )
    mutant = MUTANT._replace(file="agent/double.py")
    with Workshop(repository, tmp_path / "copy") as workshop:
        run = workshop.run(mutant)
        assert complaint(mutant, run) == "", run.output
        assert workshop.run_unchanged(mutant.caught_by).status == 0
        missing = mutant._replace(caught_by=("tests/test_double.py::test_that",))
        assert "exit status 4" in complaint(missing, workshop.run(missing))
        with pytest.raises(ValueError, match="0 times"):
            workshop.run(mutant._replace(text="number * 3"))
    assert (repository / "agent" / "double.py").read_text(encoding="utf-8") == SOURCE
