"""Faults of real processes and real sockets, ours beside the public packages (RELIABILITY §1)."""
