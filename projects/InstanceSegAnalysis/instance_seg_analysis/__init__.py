"""What the methods are compared by: internals, limits, order, costs. May import every package."""
