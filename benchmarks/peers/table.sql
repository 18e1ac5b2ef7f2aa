CREATE TABLE orders (client_order_id TEXT PRIMARY KEY, strategy TEXT, symbol TEXT, side TEXT, quantity TEXT,
  order_type TEXT, limit_price TEXT, time_in_force TEXT, created_at TEXT, status TEXT, broker_order_id TEXT,
  updated_at TEXT);
CREATE TABLE order_events (client_order_id TEXT, at TEXT, kind TEXT)
