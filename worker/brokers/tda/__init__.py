"""TD Ameritrade v1 and Schwab's Trader API, two dialects of one adapter. Starts in `adapter`."""
