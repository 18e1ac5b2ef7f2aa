"""The door that speaks Alpaca's trading and data API."""
