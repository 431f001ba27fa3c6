"""The acceptance criteria of `behaviours.md`, one test a line: `test_bNNN_...`."""
