"""The version of both distributions: the only place where it is written.

Both ``pyproject.toml`` files read it from here; knows nothing else.
"""

__version__ = "0.22.0"
