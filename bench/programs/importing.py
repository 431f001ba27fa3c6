"""How long importing the client takes in a fresh process, and how much memory it leaves in use.

Run as ``python importing.py MODULE [NAME]``.
"""

from __future__ import annotations

import importlib
import sys
import time

BEGIN = time.perf_counter()
module = importlib.import_module(sys.argv[1])
if sys.argv[2:]:
    getattr(module, sys.argv[2])
SECONDS = time.perf_counter() - BEGIN

if __name__ == "__main__":
    with open("/proc/self/status", encoding="ascii") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    # after measuring: this import costs time, too
    from lines import tell

    tell("result", milliseconds=SECONDS * 1e3, megabytes=kilobytes / 1e3)
