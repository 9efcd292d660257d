"""The mutants: promises of delivery, each taken out of the code on purpose, and the tests that must notice.

`docs/architecture.md` tells how to add one. Keep `text` to a line or two, so that it goes on fitting.
"""

from tests.mutants import delivery, keeping, quiet, secrecy, sessions

MUTANTS = (*delivery.MUTANTS, *keeping.MUTANTS, *secrecy.MUTANTS, *quiet.MUTANTS, *sessions.MUTANTS)
