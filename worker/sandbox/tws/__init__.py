"""The door that speaks the TWS socket protocol."""
