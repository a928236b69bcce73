"""Events to the warehouse: a name kept in the house's import contracts; it has no code yet."""
