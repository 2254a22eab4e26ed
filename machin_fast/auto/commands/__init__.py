"""What each command does; ``cli`` has their options."""
