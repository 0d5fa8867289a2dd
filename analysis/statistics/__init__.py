"""Arrays in, numbers out: nothing here knows of frames, tasks or files."""
