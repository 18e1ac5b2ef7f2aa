"""schwab-py at a Schwab door whose login has two accounts: each has a hash of its own in paths, and its own orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from drive_tda import body, equities, new_client, sdk
from driver import control, eventually, report

USUAL, OTHER = "12345678", "12345679"


def main() -> None:
    control("/price", symbol="AAPL", price="100")
    control("/position", door="schwab", symbol="MSFT", quantity="7", account=OTHER)
    client = new_client()
    hashes = {row["accountNumber"]: row["hashValue"] for row in body(client.get_account_numbers())}
    told = body(client.get_user_preferences())["accounts"]
    seen: dict[str, Any] = {"numbers": list(hashes), "preferences": [row["accountNumber"] for row in told]}
    desks = {number: SchwabPyDesk(client, name) for number, name in hashes.items()}
    bought = {number: desk.place(equities.equity_buy_market("AAPL", size)) for (number, desk), size in
              zip(desks.items(), (4, 9), strict=True)}  # fmt: skip
    for number, desk in desks.items():
        desk.is_now(bought[number], "FILLED")
    rests = desks[OTHER].place(equities.equity_buy_limit("AAPL", 2, "50.00"))
    desks[OTHER].is_now(rests, "WORKING")
    seen["held"] = {number: desk.held() for number, desk in desks.items()}
    everybody = body(client.get_accounts(fields=[client.Account.Fields.POSITIONS]))
    seen["held_together"] = {
        row["securitiesAccount"]["accountNumber"]: held_in(row["securitiesAccount"]) for row in everybody
    }
    seen["listed"] = {number: desk.listed() == [bought[number], *([rests] if number == OTHER else [])]
                      for number, desk in desks.items()}  # fmt: skip
    until = {"to_entered_datetime": datetime.now(UTC) + timedelta(seconds=60)}
    linked = body(client.get_orders_for_all_linked_accounts(**until))
    seen["everywhere"] = sorted([str(row["accountNumber"]), row["status"]] for row in linked)
    # By the other account's path nobody sees, changes or cancels an order.
    strange = hashes[USUAL]
    asked = (
        client.get_order(rests, strange),
        client.replace_order(strange, rests, equities.equity_buy_limit("AAPL", 2, "51.00")),
        client.cancel_order(rests, strange),
        client.get_account("0" * 64),
    )
    seen["refused"] = [answer.status_code for answer in asked]
    assert desks[OTHER].row(rests)["status"] == "WORKING"
    oversold = desks[USUAL].place(equities.equity_sell_market("MSFT", 7))  # the other account has them
    seen["oversold"] = desks[USUAL].is_now(oversold, "REJECTED")["statusDescription"]
    sold = desks[OTHER].place(equities.equity_sell_market("MSFT", 7))
    desks[OTHER].is_now(sold, "FILLED")
    assert client.cancel_order(rests, hashes[OTHER]).status_code == 200
    desks[OTHER].is_now(rests, "CANCELED")
    report(seen)


def held_in(account: dict[str, Any]) -> list[list[Any]]:
    return sorted([row["instrument"]["symbol"], row["longQuantity"]] for row in account.get("positions", ()))


class SchwabPyDesk:
    """One account of the login, by the hash that stands for its number in paths."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def place(self, order: Any) -> int:
        answer = self.client.place_order(self.name, order)
        assert answer.status_code == 201, answer.text
        # The client refuses a Location that leads to another account than its own.
        return int(sdk["utils"].Utils(self.client, self.name).extract_order_id(answer))

    def row(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = body(self.client.get_order(number, self.name))
        return found

    def is_now(self, number: int, status: str) -> dict[str, Any]:
        eventually(lambda: self.row(number)["status"] == status, status)
        return self.row(number)

    def held(self) -> list[list[Any]]:
        fields = self.client.Account.Fields.POSITIONS
        return held_in(body(self.client.get_account(self.name, fields=fields))["securitiesAccount"])

    def listed(self) -> list[int]:
        until = {"to_entered_datetime": datetime.now(UTC) + timedelta(seconds=60)}
        return sorted(row["orderId"] for row in body(self.client.get_orders_for_account(self.name, **until)))


main()
