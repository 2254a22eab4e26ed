"""Training loops: evaluation, pictures of the progress."""
