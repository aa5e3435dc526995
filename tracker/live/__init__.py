"""Many streams at once, for a long time: their names, their trackers, how they are, the page."""
