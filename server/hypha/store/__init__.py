"""Records that outlive a process. Nothing outside knows where they are kept."""

from hypha.store.base import AlreadyThere, Delete, DeleteBelow, Put, Store, StoreError, kept
from hypha.store.memory import MemoryStore

__all__ = ["AlreadyThere", "Delete", "DeleteBelow", "MemoryStore", "Put", "Store", "StoreError", "kept"]
