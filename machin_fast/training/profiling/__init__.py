"""Where the time of a training loop goes.

``profile`` has the context manager, ``instruments`` what it times, ``watch`` worker processes and
the GPU, ``advice`` what to try, ``report`` and ``trace`` what is shown.
"""
