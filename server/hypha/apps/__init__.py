"""Browser apps on the server (server §8)."""
