"""Logging in: the service ``public/hypha-login``, its page, its keys (server §4.6)."""

from hypha.login.callers import Callers
from hypha.login.room import LoginRoom, Surroundings
from hypha.login.service import LOGIN_ID

__all__ = ["LOGIN_ID", "Callers", "LoginRoom", "Surroundings"]
