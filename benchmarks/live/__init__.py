"""Do live streams stay live? `__main__.py` tells what is measured."""
