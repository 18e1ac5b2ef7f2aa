"""Data requests: fetched from one broker, or the next, and recorded as rows."""
