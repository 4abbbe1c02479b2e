"""Start one interpreter and say what it took: ``python launch.py <code>``, in a process with next to nothing in it.

A child's peak memory counts from its parent's at the fork, so the parent has to be small.
"""

import json
import os
import sys
import time

begun = time.perf_counter()
pid = os.posix_spawn(sys.executable, [sys.executable, "-c", sys.argv[1]], os.environ)
_, status, usage = os.wait4(pid, 0)
took = time.perf_counter() - begun
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"ms": took * 1e3, "mib": usage.ru_maxrss * unit / 2**20, "status": status}))
