"""Names that operators' modules import (server §4.6); nothing but imports."""

from hypha.auth.userinfo import ScopeInfo, UserInfo, UserPermission

__all__ = ["ScopeInfo", "UserInfo", "UserPermission"]
