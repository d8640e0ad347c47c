"""Property tests: no deadline, because the machine may be busy, and no data base, because tests run in parallel."""

from hypothesis import settings

settings.register_profile("forethought", deadline=None, database=None, max_examples=60)
settings.load_profile("forethought")
