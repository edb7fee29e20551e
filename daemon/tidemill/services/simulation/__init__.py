"""Simulation: the daemon's own services on a virtual clock, with runs that follow a script."""
