"""Studies: one file each, which is also the script given to `ray submit`."""
