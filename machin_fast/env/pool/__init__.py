"""Environments in worker processes and in the parent: see ``machin_fast.env.ActorPool``.

Workers import this package, so nothing in it imports torch before it is asked for tensors.
"""
