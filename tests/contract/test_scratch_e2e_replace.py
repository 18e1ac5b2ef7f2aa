import time
import pytest
from decimal import Decimal
from producers import OrderRequest
from tests.kit import World, eventually

@pytest.mark.parametrize("name", ["ibkr", "alpaca", "tda"])
@pytest.mark.parametrize("fault", [None, "accept_drop"])
def test_e2e(name, fault, new_world):
    w = new_world(brokers=(name,))
    w.start(name)
    c = w.control
    c.set_price("AAPL", "2.00")
    c.add_fault(name, "partial", count=1, symbol="AAPL")
    o = w.client.submit(OrderRequest(symbol="AAPL", side="buy", quantity=10, order_type="limit", limit_price="3.00", time_in_force="gtc"))
    def row(): return w.client.order(o.client_order_id) if hasattr(w.client,"order") else w.client.get(o.client_order_id)
    eventually(lambda: str(row().status) == "partially_filled")
    time.sleep(.3)
    if fault: c.add_fault(name, fault, count=1, operation="replace")
    w.client.replace(o.client_order_id, quantity=12, limit_price="1.00")
    t=time.time()
    try:
        eventually(lambda: row().quantity == 12, 12)
    finally:
        print(name, fault, "took", time.time()-t)
        for e in w.history.events(o.client_order_id).to_dict("records"): print("   ", e["kind"], e["from_status"], e["to_status"], e["detail"])
        for a in w.history.attempts().to_dict("records"): print("   A", a["attempt_no"], a["outcome"], a["broker_order_id"], a.get("message"))
        for m in c.orders(name): print("   M", m["number"], m["state"], m["quantity"], m["filled_quantity"], m["limit_price"])
    c.release(name); c.set_price("AAPL", "0.90")
    eventually(lambda: str(row().status) == "filled", 10)
    print("final", row().status, row().quantity, row().filled_quantity)
    c.clear_faults()
