"""The asyncio client: links that heal, sessions that register again, proxies, the connected object."""
