"""What workers know of each other, through rows: who is alive, who leads a broker."""
