"""``python -m tidemill``: the command line, where the console script is not on the path."""

import sys

from tidemill.cli.main import main

sys.exit(main())
