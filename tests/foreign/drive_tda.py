"""tda-api against the TDA door, or schwab-py against the Schwab door (the second argument: `tda` or `schwab`).

Both name their broker's host in the code: below them every request is turned to the sandbox, nothing else is changed.
The second is the first one's descendant, so that one story serves both.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from datetime import UTC, date, datetime, timedelta
from typing import Any

warnings.simplefilter("ignore")  # the clients are old, and say so of what they use

import httpx  # noqa: E402
from driver import PORTS, control, eventually, refusal, report  # noqa: E402

NAME = sys.argv[2]
SCHWAB = NAME == "schwab"
sdk: dict[str, Any] = {
    part: importlib.import_module(f"{NAME}.{part}")
    for part in ("auth", "utils", "orders.equities", "orders.common", "orders.generic", "orders.options")
}
equities, common = sdk["orders.equities"], sdk["orders.common"]


sent: list[tuple[str, str]] = []
written: list[dict[str, Any]] = []
_send = httpx.HTTPTransport.handle_request


def _to_sandbox(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
    """Send what is meant for the broker's host to the sandbox, and nothing to anywhere else."""
    assert request.url.host == ("api.schwabapi.com" if SCHWAB else "api.tdameritrade.com"), request.url
    sent.append((request.url.path, request.content.decode()))
    request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=PORTS[NAME])
    return _send(self, request)


httpx.HTTPTransport.handle_request = _to_sandbox


def asked_for_tokens() -> list[str]:
    """Return the bodies of the token requests so far."""
    return [content for path, content in sent if "oauth" in path]


def new_client(refresh_token: str = "rt", created: int = 0, lived: int = -60) -> Any:
    """Return a client with an access token that expired a minute ago, or lives on for `lived` seconds."""
    now = int(datetime.now(UTC).timestamp())
    token = {"access_token": "old", "refresh_token": refresh_token, "token_type": "Bearer", "expires_at": now + lived}
    stored = {"creation_timestamp": created or now, "token": token}
    keys = ("key", "secret") if SCHWAB else ("key",)
    access = (lambda: stored, lambda token, *_, **__: written.append(token["token"]))
    return sdk["auth"].client_from_access_functions(*keys, *access)


def main() -> None:
    control("/price", symbol="AAPL", price="100")
    control("/position", door=NAME, symbol="MSFT", quantity="7")
    seen: dict[str, Any] = {}
    client = new_client()
    seen["account"] = account = reading(client, seen)
    seen["written"] = sorted(written[0])
    seen["refresh"] = asked_for_tokens()
    prices(client, seen)
    orders(client, account, seen)
    refusals(client, account, seen)
    control("/price", symbol="KO", price="60")
    desk = TdaTrader(client, account)
    linked(desk, seen)
    options(desk, seen)
    if not SCHWAB:  # the client fetches a new refresh token by itself before the old one dies
        before = len(asked_for_tokens())
        new_client(created=1, lived=900).get_accounts()
        seen["offline"] = asked_for_tokens()[before:]
        seen["rotated"] = written[-1].get("refresh_token") not in (None, "rt")
    report(seen)


def body(answer: Any) -> Any:
    assert answer.status_code < 300, answer.text
    return answer.json()


def reading(client: Any, seen: dict[str, Any]) -> str:
    """Look at the account; return what names it in a path."""
    if SCHWAB:
        (row,) = body(client.get_account_numbers())
        name = row["hashValue"]
        assert body(client.get_user_preferences())["accounts"][0]["accountNumber"] == row["accountNumber"]
    else:
        (first,) = body(client.get_accounts())
        name = first["securitiesAccount"]["accountId"]
    fields = client.Account.Fields.POSITIONS
    found = body(client.get_account(name, fields=fields))["securitiesAccount"]
    assert body(client.get_accounts(fields=[fields]))[0]["securitiesAccount"]["positions"] == found["positions"]
    seen["number"] = found["accountNumber" if SCHWAB else "accountId"]
    seen["balances"] = [found["currentBalances"]["cashBalance"], found["currentBalances"]["buyingPower"] > 0]
    seen["positions"] = [[p["instrument"]["symbol"], p["longQuantity"]] for p in found["positions"]]
    return str(name)


def prices(client: Any, seen: dict[str, Any]) -> None:
    many, one = body(client.get_quotes(["AAPL", "SPY"])), body(client.get_quote("AAPL"))["AAPL"]
    quote = one["quote"] if SCHWAB else one
    seen["quote"] = [quote["bidPrice"], quote["askPrice"], quote["lastPrice"], one["symbol"]]
    seen["quotes"] = sorted(many)
    unknown = client.get_quotes(["NOPE"])
    seen["unknown_quote"] = [unknown.status_code, unknown.json()]
    start, end = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 17, tzinfo=UTC)
    days = body(client.get_price_history_every_day("AAPL", start_datetime=start, end_datetime=end))
    names = ("datetime", "open", "high", "low", "close", "volume")
    seen["bars"] = [[candle[name] for name in names] for candle in days["candles"]]
    usual = {"minute": client.get_price_history_every_minute, "week": client.get_price_history_every_week}
    usual["half_hour"] = client.get_price_history_every_thirty_minutes
    recent = {"start_datetime": datetime.now(UTC) - timedelta(days=9)}
    seen["candles"] = {name: len(body(ask("AAPL", **recent))["candles"]) > 0 for name, ask in usual.items()}
    seen["all_days"] = len(body(client.get_price_history_every_day("AAPL"))["candles"]) > 250


def stop_order(kind: str, **prices: Any) -> Any:
    """Build an order for which the clients have no template."""
    builder = sdk["orders.generic"].OrderBuilder()
    builder.set_order_type(getattr(common.OrderType, kind)).set_session(common.Session.NORMAL)
    builder.set_duration(common.Duration.DAY).set_order_strategy_type(common.OrderStrategyType.SINGLE)
    builder.add_equity_leg(common.EquityInstruction.SELL, "AAPL", 2)
    for name, value in prices.items():
        getattr(builder, f"set_{name}")(value)
    return builder


def orders(client: Any, account: str, seen: dict[str, Any]) -> None:
    utils = sdk["utils"].Utils(client, account)

    def place(order: Any) -> int:
        answer = client.place_order(account, order)
        assert (answer.status_code, answer.content) == (201, b""), answer.text
        number = utils.extract_order_id(answer)
        assert number is not None, answer.headers
        return int(number)

    def order(number: int) -> dict[str, Any]:
        found: dict[str, Any] = body(client.get_order(number, account))
        return found

    def is_now(number: int, *statuses: str) -> dict[str, Any]:
        eventually(lambda: order(number)["status"] in statuses, f"{statuses}")
        return order(number)

    market = is_now(place(equities.equity_buy_market("AAPL", 10)), "FILLED")
    (activity,) = market["orderActivityCollection"]
    (leg,) = activity["executionLegs"]
    seen["fill"] = [market["filledQuantity"], market["remainingQuantity"], leg["quantity"], leg["price"]]
    seen["fill_words"] = [activity["activityType"], activity["executionType"], market["orderLegCollection"][0]]

    resting = {
        "limit": equities.equity_buy_limit("AAPL", 10, "95.50"),
        "gtc": equities.equity_buy_limit("AAPL", 10, "50.00").set_duration(common.Duration.GOOD_TILL_CANCEL),
        "stop": stop_order("STOP", stop_price="90.00"),
        "stop_limit": stop_order("STOP_LIMIT", stop_price="90.00", price="89.50"),
        "trail": stop_order(
            "TRAILING_STOP",
            stop_price_link_basis=common.StopPriceLinkBasis.LAST,
            stop_price_link_type=common.StopPriceLinkType.PERCENT,
            stop_price_offset=5,
        ),
    }
    numbers = {name: place(spec) for name, spec in resting.items()}
    working = {name: is_now(number, "WORKING", "AWAITING_STOP_CONDITION") for name, number in numbers.items()}
    keys = ("orderType", "status", "duration", "price", "stopPrice", "stopPriceOffset")
    seen["resting"] = {name: [found.get(key) for key in keys] for name, found in working.items()}
    short = place(equities.equity_sell_short_limit("TSLA", 3, "9000.00"))
    is_now(short, "WORKING")
    seen["short"] = order(short)["orderLegCollection"][0]["instruction"]

    listing = client.get_orders_for_account if SCHWAB else client.get_orders_by_path
    # The clients ask until this whole second; look a little further.
    until = {"to_entered_datetime": datetime.now(UTC) + timedelta(seconds=60)}
    listed = body(listing(account, **until))
    seen["listed"] = {found["orderId"] for found in listed} == {*numbers.values(), short, market["orderId"]}
    status = {"status": client.Order.Status.FILLED}
    seen["filled"] = [found["orderId"] == market["orderId"] for found in body(listing(account, **until, **status))]
    everywhere = client.get_orders_for_all_linked_accounts if SCHWAB else client.get_orders_by_query
    seen["everywhere"] = len(body(everywhere(max_results=3, **until)))

    answer = client.replace_order(account, numbers["limit"], equities.equity_buy_limit("AAPL", 5, "96.25"))
    assert answer.status_code == 201, answer.text
    successor = int(utils.extract_order_id(answer))
    changed = is_now(successor, "WORKING")
    seen["replaced"] = [order(numbers["limit"])["status"], changed["price"], changed["quantity"]]
    canceled = client.cancel_order(successor, account)
    seen["cancel"] = [canceled.status_code, canceled.text, is_now(successor, "CANCELED")["status"]]
    again = client.cancel_order(successor, account)
    seen["cancel_again"] = [again.status_code, sorted(again.json())]

    control("/faults", door=NAME, kind="partial", count=1)
    half = place(equities.equity_buy_limit("AAPL", 10, "101.00"))
    eventually(lambda: order(half)["filledQuantity"], "half is filled")
    seen["partial"] = [order(half)["status"], order(half)["filledQuantity"], order(half)["remainingQuantity"]]
    for number in (half, short, *(n for name, n in numbers.items() if name != "limit")):
        assert client.cancel_order(number, account).status_code == 200
        is_now(number, "CANCELED")
    seen["sold"] = is_now(place(equities.equity_sell_market("MSFT", 7)), "FILLED")["status"]

    poor = is_now(place(equities.equity_buy_market("AAPL", 1_000_000)), "REJECTED")
    seen["poor"] = [poor["statusDescription"], poor["filledQuantity"]]
    oversold = is_now(place(equities.equity_sell_market("TSLA", 5)), "REJECTED")
    seen["oversold"] = oversold["statusDescription"]
    if SCHWAB:
        preview = body(client.preview_order(account, equities.equity_buy_limit("AAPL", 10, "95.00")))
        seen["preview"] = preview["orderStrategy"]["orderValue"]
        assert len(body(listing(account, **until))) == 12, "a preview places nothing"


def refusals(client: Any, account: str, seen: dict[str, Any]) -> None:
    utils = sdk["utils"].Utils(client, account)
    answers = {
        "symbol": client.place_order(account, equities.equity_buy_market("NOPE", 1)),
        "account": client.place_order("12345", equities.equity_buy_market("AAPL", 1)),
        "order": client.get_order(4711, account),
        "form": client.place_order(account, {"orderType": "MARKET"}),
    }
    seen["refused"] = {name: [answer.status_code, answer.json()] for name, answer in answers.items()}
    seen["unsuccessful"] = refusal(lambda: utils.extract_order_id(answers["symbol"]))
    stranger = sdk["utils"].Utils(client, "999")
    placed = client.place_order(account, equities.equity_buy_limit("AAPL", 1, "1.00"))
    seen["mismatch"] = refusal(lambda: stranger.extract_order_id(placed))
    denied = new_client("wrong")
    seen["denied"] = refusal(denied.get_accounts)


# -- LINKED ORDERS, OPTIONS ---
class TdaTrader:
    """Places orders and reads them again."""

    def __init__(self, client: Any, account: str) -> None:
        self.client, self.account = client, account

    def place(self, order: Any) -> int:
        answer = self.client.place_order(self.account, order)
        assert answer.status_code == 201, answer.text
        return int(sdk["utils"].Utils(self.client, self.account).extract_order_id(answer))

    def row(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = body(self.client.get_order(number, self.account))
        return found

    def is_now(self, number: int, status: str) -> dict[str, Any]:
        eventually(lambda: self.row(number)["status"] == status, status)
        return self.row(number)


def singles(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the single orders of a row, the outer one first."""
    inner = [one for child in row.get("childOrderStrategies", ()) for one in singles(child)]
    return ([] if row["orderStrategyType"] == "OCO" else [row]) + inner


def ko_stop(price: str) -> Any:
    order = stop_order("STOP", stop_price=price)
    order._orderLegCollection = []
    return order.add_equity_leg(common.EquityInstruction.SELL, "KO", 10).set_duration(common.Duration.GOOD_TILL_CANCEL)


def ko_target(price: str) -> Any:
    return equities.equity_sell_limit("KO", 10, price).set_duration(common.Duration.GOOD_TILL_CANCEL)


def linked(desk: TdaTrader, seen: dict[str, Any]) -> None:
    """A bracket as the clients' documentation writes it: first triggers an OCO; and an OCO by itself."""
    exits = common.one_cancels_other(ko_target("66.00"), ko_stop("55.00"))
    bracket = desk.place(common.first_triggers_second(equities.equity_buy_market("KO", 10), exits))
    entry = desk.is_now(bracket, "FILLED")
    seen["bracket"] = [entry["orderStrategyType"], *(one["orderType"] for one in singles(entry))]
    seen["oco_inside"] = [child["orderStrategyType"] for child in entry["childOrderStrategies"]]
    numbers = [one["orderId"] for one in singles(entry)[1:]]
    eventually(lambda: desk.row(numbers[0])["status"] == "WORKING", "the exits wake")
    control("/price", symbol="KO", price="67")
    desk.is_now(numbers[1], "CANCELED")
    seen["bracket_ends"] = [one["status"] for one in singles(desk.row(bracket))]

    control("/price", symbol="KO", price="60")
    desk.is_now(desk.place(equities.equity_buy_market("KO", 10)), "FILLED")
    pair = desk.place(common.one_cancels_other(ko_target("66.00"), ko_stop("55.00")))
    both = [one["orderId"] for one in singles(desk.row(pair))]
    seen["pair"] = [desk.row(pair)["orderStrategyType"], len(both)]
    eventually(lambda: desk.row(both[1])["status"] in ("WORKING", "AWAITING_STOP_CONDITION"), "both work")
    control("/price", symbol="KO", price="54")
    desk.is_now(both[0], "CANCELED")
    seen["pair_ends"] = [one["status"] for one in singles(desk.row(pair))]
    control("/price", symbol="KO", price="60")


def options(desk: TdaTrader, seen: dict[str, Any]) -> None:
    """A call of the chain, then a vertical by the clients' own template, and what it would cost."""
    chain = body(desk.client.get_option_chain("KO", contract_type=desk.client.Options.ContractType.CALL))
    day = min(chain["callExpDateMap"])
    found = [rows[0] for rows in chain["callExpDateMap"][day].values()]
    low, high = sorted(sorted(found, key=lambda c: abs(c["strikePrice"] - 60))[:2], key=lambda c: c["strikePrice"])
    seen["chain"] = [chain["status"], low["putCall"], low["symbol"] < high["symbol"]]
    templates = sdk["orders.options"]
    strike = f"{low['strikePrice']:g}"
    told = templates.OptionSymbol("KO", date.fromisoformat(day[:10]), "C", strike).build()
    seen["symbol"] = told == low["symbol"]
    call = desk.is_now(desk.place(templates.option_buy_to_open_market(low["symbol"], 1)), "FILLED")
    leg = call["orderLegCollection"][0]
    seen["call"] = [leg["orderLegType"], leg["instruction"], leg["instrument"]["symbol"] == low["symbol"]]
    vertical = lambda debit: templates.bull_call_vertical_open(low["symbol"], high["symbol"], 2, debit)  # noqa: E731
    row = desk.is_now(desk.place(vertical("5.00")), "FILLED")
    seen["vertical"] = [row["orderType"], row["complexOrderStrategyType"], row["quantity"], row["filledQuantity"]]
    seen["vertical_legs"] = [[leg["instruction"], leg["quantity"]] for leg in row["orderLegCollection"]]
    executed = [one for activity in row["orderActivityCollection"] for one in activity["executionLegs"]]
    seen["by_leg"] = sorted([one["legId"], one["quantity"]] for one in executed)
    resting = desk.place(vertical("0.01"))
    desk.is_now(resting, "WORKING")
    assert desk.client.cancel_order(resting, desk.account).status_code == 200
    desk.is_now(resting, "CANCELED")
    if SCHWAB:
        preview = body(desk.client.preview_order(desk.account, vertical("3.00")))
        seen["vertical_preview"] = [preview["orderStrategy"]["orderValue"], preview["orderValidationResult"]["rejects"]]


if __name__ == "__main__":
    main()
