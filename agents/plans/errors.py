"""What is wrong with a folder of plans."""


class PlanError(ValueError):
    """Plans cannot be drafted, read, reviewed or exported; the message says where and what to do."""
