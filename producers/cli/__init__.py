"""The commands that need no worker: orders, data and history, and how every command speaks to people and programs."""
