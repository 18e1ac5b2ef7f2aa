"""What people, and trips, do to trading: halt, reduce, resume, kill, and what every sender asks before it sends."""
