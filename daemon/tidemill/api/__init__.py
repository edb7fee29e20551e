"""The edge: HTTP on loopback and on the control socket, in Prefect's routes and field names where Prefect has them.

Handlers take names and values, ask ``Control`` or the database, and answer JSON documents. Nothing here changes a run.
"""
