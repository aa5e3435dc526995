"""One profile for all laws: fixed seeds, and no deadline, for the machine may be busy."""

from hypothesis import settings

settings.register_profile("surepose", deadline=None, derandomize=True)
settings.load_profile("surepose")
