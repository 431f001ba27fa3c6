"""The sweep: ``python -m tests.cut.run --stride 1`` cuts the session after every byte, in either direction.

``HYPHA_CUT_STRIDE`` says how far apart the cuts are when the option does not.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator

from tests.cut.session import Result, run
from tests.cut.wires import Cut


def cuts(stride: int, *, silent: bool, offset: int = 0) -> Iterator[Cut]:
    """Cuts *stride* bytes apart over the whole session, in both directions."""
    whole = run(Cut())
    for lane, length in whole.cut.passed.items():
        for after in range(offset % stride, length, stride):
            yield Cut(lane, after, silent)


def where(result: Result) -> str:
    """The cut of *result*, for a person."""
    cut = result.cut
    return f"{cut.lane} after {cut.after}{' silently' if cut.silent else ''}, while {result.marks[-1][0]}"


def main() -> int:
    """Sweep as the command line asks; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=int(os.environ.get("HYPHA_CUT_STRIDE", "97")))
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--silent", action="store_true", help="nobody is told of the cut")
    options = parser.parse_args()
    began, done, failed = time.monotonic(), 0, 0
    run(Cut())
    gc.collect()
    gc.freeze()
    for cut in cuts(options.stride, silent=options.silent, offset=options.offset):
        result = run(cut)
        done += 1
        if result.violations:
            failed += 1
            print(f"{where(result)}: {result.violations[:4]}", flush=True)
        if done % 1000 == 0:
            print(f"{done} cuts, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{done} cuts, {options.stride} bytes apart, in {time.monotonic() - began:.0f} s: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
