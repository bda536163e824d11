"""`python -m model_runtime` is the command `diffill`."""

import sys

from model_runtime.cli import main

sys.exit(main())
