"""The door that speaks TD Ameritrade v1 or Schwab's Trader API."""
