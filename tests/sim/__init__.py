"""A simulated world: real clients and a real server in one thread, under a virtual clock and a seeded scheduler."""
