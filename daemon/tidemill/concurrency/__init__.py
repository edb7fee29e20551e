"""Slots of concurrency limits: ``.sync`` for sync code, ``.asyncio`` for async code."""
