"""Programs run by either interpreter: they may use nothing but the public API of ``hypha_rpc``."""
