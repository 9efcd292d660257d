"""One promise, taken out of the code on purpose."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`text` stands in `file` exactly once and is replaced by `becomes`. `caught_by`: pytest node ids, each of which
    has to fail; without parameters, one of a test's cases has to."""

    name: str
    file: str
    text: str
    becomes: str
    caught_by: tuple[str, ...]
