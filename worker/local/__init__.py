"""One machine as a whole fleet: its processes, the demo, and the audit of both sides."""
