"""Where flow code runs. Each runner carries one attempt at a time through :class:`~tidemill.core.ports.Runner`."""
