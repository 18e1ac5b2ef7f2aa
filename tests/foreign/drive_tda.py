"""tda-api against the TDA door, or schwab-py against the Schwab door (the second argument: `tda` or `schwab`).

Both name their broker's host in the code: below them every request is turned to the sandbox, nothing else is changed.
The second is the first one's descendant, so that one story serves both.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

warnings.simplefilter("ignore")  # the clients are old, and say so of what they use

import httpx  # noqa: E402
from driver import PORTS, control, eventually, refusal, report  # noqa: E402

NAME = sys.argv[2]
SCHWAB = NAME == "schwab"
sdk: dict[str, Any] = {
    part: importlib.import_module(f"{NAME}.{part}")
    for part in ("auth", "utils", "orders.equities", "orders.common", "orders.generic")
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


main()
