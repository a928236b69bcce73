"""Live heart-rate sessions: a name kept in the house's import contracts; it has no code yet."""
