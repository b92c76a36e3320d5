"""How hard the fault tests push: shortly by default, for as long as it takes with FAULTS=full (`make test-faults`)."""

import os

IS_FULL = os.environ.get("FAULTS") == "full"
