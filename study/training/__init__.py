"""One run, from pretrained weights to its outcome."""
