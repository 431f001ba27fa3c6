"""The manager: the registry of services and workspaces, as RPC methods every client can call."""
