"""The web face: one module a group of routes."""
