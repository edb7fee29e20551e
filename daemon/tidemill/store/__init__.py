"""The store: SQLite, one writer with group commit, read-only readers. Changes are ops, reads are plain functions."""

from tidemill.store.doors import AiosqliteDoor, Door, DoorFactory, InlineDoor, aiosqlite_doors, inline_doors
from tidemill.store.ops import Lane, Op
from tidemill.store.store import Store
from tidemill.store.writer import Stats

__all__ = [
    "AiosqliteDoor",
    "Door",
    "DoorFactory",
    "InlineDoor",
    "Lane",
    "Op",
    "Stats",
    "Store",
    "aiosqlite_doors",
    "inline_doors",
]
