"""Alpaca: orders over REST, updates over the trade_updates websocket. Starts in `adapter`."""
