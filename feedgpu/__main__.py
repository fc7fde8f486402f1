"""`python3 -m feedgpu`: the command feedgpu."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
