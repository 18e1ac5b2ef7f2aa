"""The record: the only place with tables and transactions. Everything that must survive is a row here."""
