"""The daemon's services: each is ``run()`` around one pass, and all change states through the orchestrator's door."""
