"""Push notifications: a name kept in the house's import contracts; it has no code yet."""
