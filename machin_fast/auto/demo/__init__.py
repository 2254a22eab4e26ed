"""The main job, end to end: Double DQN with prioritized replay learns CartPole-v1.

``agent`` has the networks and how they learn, ``training`` the loop around them, ``command`` what
the terminal shows.
"""
