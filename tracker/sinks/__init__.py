"""Where tracked frames go: a table, a video, a window. Each output is one module."""
