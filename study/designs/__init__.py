"""Example studies, one file each; a file is also the script for `ray submit`."""
