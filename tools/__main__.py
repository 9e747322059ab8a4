"""``python -m lamina.tools``: the `lamina` command."""

from __future__ import annotations

import sys

from lamina.tools.cli import main

if __name__ == "__main__":
    sys.exit(main())
