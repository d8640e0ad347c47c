"""Engines: what samples tokens, behind one protocol (`forethought.agents.engine`)."""
