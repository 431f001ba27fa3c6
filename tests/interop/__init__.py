"""Interoperation of this project's client and server with the public packages, in every combination."""
