"""`python -m tests.golden` writes the reports anew; with names, those of these cases."""

import sys
from pathlib import Path

# The modules that tests share are found from here, as pytest's `pythonpath` has it.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.golden.cases import CASES
from tests.golden.reports import REPORTS, write

if __name__ == "__main__":
    REPORTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        write(name, CASES[name]().report())
