"""A workflow orchestrator for one machine: one asyncio process, one TOML file, one SQLite database."""

__version__ = "0.1.0"
