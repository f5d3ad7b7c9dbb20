"""`python -m ranet_jax`: the command `ranet`."""

import sys

from ranet_jax.cli import main

sys.exit(main())
