"""``python -m graphnet.cli`` is the command ``graphnet``."""

import sys

from graphnet.cli import main

sys.exit(main())
