"""`python -m ranet_jax.cli` runs the command `ranet`."""

import sys

from ranet_jax.cli.main import main

sys.exit(main())
