"""Helpers for start-up functions, at the path that programs import them from (server §1.9)."""

from hypha_rpc.utils.launch import ExternalService, LaunchError, launch_external_services

__all__ = ["ExternalService", "LaunchError", "launch_external_services"]
