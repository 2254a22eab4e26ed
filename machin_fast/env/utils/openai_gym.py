"""Helpers for Gymnasium's environments."""


def disable_view_window() -> None:
    """Does nothing: environments open no window unless they are made with
    ``render_mode="human"``. Once it kept gym's viewer from opening one."""
