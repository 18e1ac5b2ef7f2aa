"""The brokers' public OpenAPI documents: where they are, where they are wrong, and what they do not know."""

from __future__ import annotations

from typing import Any

from tests.foreign.conftest import HERE

Json = dict[str, Any]
Repair = tuple[str, str, Any, str]
#: Third-party copies of what the brokers publish; they lie beside a clone, and a newcomer has none.
SPECS = HERE.parents[2] / "shared" / "specs"
PACKAGE = "alpaca_mcp_server"
DOCUMENTS = {
    "trading": f"{PACKAGE}:specs/trading-api.json",
    "data": f"{PACKAGE}:specs/market-data-api.json",
    "schwab": str(SPECS / "schwab_trader.json"),
    "schwab_data": str(SPECS / "schwab_md.json"),
    "tda": str(SPECS / "tda_swagger.yml"),
}


EQUITIES = "#/components/schemas/EquityResponse"


ACCOUNT, ORDER = "#/components/schemas/Account", "#/components/schemas/Order"


_TDA_OK = "responses/200/content/application~1json/schema"
#: TDA's own documentation of an equity quote (docs/facts/tda.md#3.1: GetQuotes/response.json): type to keys.
TDA_QUOTE = {
    "string": "symbol description bidId askId lastId exchange exchangeName divDate securityStatus",
    "boolean": "marginable shortable",
    "integer": (
        "bidSize askSize lastSize totalVolume quoteTimeInLong tradeTimeInLong digits regularMarketLastSize "
        "regularMarketTradeTimeInLong"
    ),
    "number": (
        "bidPrice askPrice lastPrice openPrice highPrice lowPrice closePrice netChange mark volatility 52WkHigh "
        "52WkLow peRatio divAmount divYield regularMarketLastPrice regularMarketNetChange"
    ),
}


def tda_quotes() -> Json:
    """Return the schema of a map of symbols to quotes; a documented key may not be missing."""
    known = {key: {"type": kind} for kind, keys in TDA_QUOTE.items() for key in keys.split()}
    recorded: Json = {"assetType": {"type": "string"}, "delayed": {"type": "boolean"}, "nAV": {"type": "number"}}
    quote = {"type": "object", "properties": known | recorded, "required": list(known)}
    return {"type": "object", "additionalProperties": quote}


def ref(target: str) -> Json:
    return {"$ref": target}


#: Where a document is wrong about its own service: what is put there instead, and why.
REPAIRS: list[Repair] = [
    *(
        ("schwab", f"/components/schemas/{name}/required", ["assetType"], "`name` is no property and never sent")
        for name in ("AccountsBaseInstrument", "TransactionBaseInstrument")
    ),
    (
        "schwab",
        "/components/schemas/AccountsInstrument/discriminator/mapping/COLLECTIVE_INVESTMENT",
        "#/components/schemas/CollectiveInvestment",
        "funds are COLLECTIVE_INVESTMENT; the base knows the word, the mapping forgot it",
    ),
    (
        "schwab",
        f"/paths/~1userPreference/get/{_TDA_OK}",
        ref("#/components/schemas/UserPreference"),
        "one object, no list: schwab-py takes streamerInfo out of it",
    ),
    (
        "schwab_data",
        "/components/schemas/QuoteResponse",
        {"type": "object", "properties": {"errors": ref("#/components/schemas/QuoteError")}}
        | {"additionalProperties": ref(EQUITIES)},
        "a choice of eight without a discriminator takes anything; here are only equities",
    ),
    ("tda", f"/paths/~1accounts/get/{_TDA_OK}", {"type": "array", "items": ref(ACCOUNT)}, "a list of accounts"),
    (
        "tda",
        f"/paths/~1accounts~1{{accountId}}~1orders/get/{_TDA_OK}",
        {"type": "array", "items": ref(ORDER)},
        "a list of orders",
    ),
    (
        "tda",
        "/paths/~1orders/get/responses/200",
        {"content": {"application/json": {"schema": {"type": "array", "items": ref(ORDER)}}}},
        "the good answer was left out",
    ),
    *(
        ("tda", f"/paths/~1marketdata~1{path}/get/{_TDA_OK}", tda_quotes(), "a map of symbols to quotes, not to names")
        for path in ("quotes", "{symbol}~1quotes")
    ),
    (
        "tda",
        "/components/schemas/AccountType",
        ref("#/components/schemas/MarginAccount"),
        "a choice without a discriminator takes anything; here is only a margin account",
    ),
    (
        "tda",
        "/components/schemas/InstrumentType",
        ref("#/components/schemas/Equity"),
        "a choice without a discriminator takes anything; here are only equities",
    ),
    (
        "tda",
        "/components/schemas/MarginAccount/properties/orderStrategies/items",
        ref(ORDER),
        "an order like any other; its copy in the account has one activity where a list belongs",
    ),
    (
        "tda",
        "/components/schemas/Order/properties/orderLegCollection/items/properties/orderLegType",
        ref("#/components/schemas/AssetType"),
        "the legs' type is an asset type, as the document itself has it in OrderCollection",
    ),
]


#: What Alpaca's options documentation shows in the answer to an order with legs; its OpenAPI document has none of it.
_MLEG = "the documentation's own answer to an mleg order"
#: Where the real service is known to answer something that its document does not know: complaint, and the evidence.
BEYOND = {
    "trading": {
        "*source undocumented": "recorded order",
        "*subtag undocumented": "recorded order",
        "*legs[].expires_at undocumented": "recorded order",
        "*legs[].ratio_qty undocumented": _MLEG,
        "*legs[].type enum: '' is not *": _MLEG,
        "* asset_class enum: '' is not *": _MLEG,
        "* asset_id format: '' is not *": _MLEG,
        "* position_intent enum: '' is not *": _MLEG,
        "* side enum: '' is not *": _MLEG,
        "* symbol minLength: *": _MLEG,
        "* /v2/account 200 admin_configurations undocumented": "recorded account",
        "* /v2/account 200 crypto_tier undocumented": "recorded account",
        "* /v2/account 200 effective_buying_power undocumented": "recorded account",
        "* /v2/account 200 position_market_value undocumented": "recorded account",
        "* /v2/account 200 user_configurations undocumented": "recorded account",
        "* /v2/assets*easy_to_borrow undocumented": "recorded asset; the document's own example has it",
        "GET /v2/account/activities/FILL 200 [] oneOf: *": "both choices take anything, nothing is required",
        "DELETE /v2/orders 207 [].body undocumented": "2.2: id, status and the order",
        "DELETE /v2/positions 207 [].body*": "the refusal, of one that cannot be closed; as alpaca-py has it",
        "* 401 status: not in the document": "2.4: unauthorized",
        "* 404 status: not in the document": "2.4: not found",
        "* 422 status: not in the document": "2.4: refused",
    },
    "data": {
        "GET /v2/stocks/AAPL/bars 200 bars type: None is not of type 'array'": "2.2: null when there are none",
        "* 404 status: not in the document": "no such symbol",
    },
    "schwab": {
        "*ime format: '*+0000' is not a 'date-time'": "3.5: real times have no colon in their zone",
        "*orderActivityCollection[].activityId undocumented": "3.5",
        "*aggregatedBalance undocumented": "3.4",
        "*securitiesAccount.currentBalances.* undocumented": "3.4: the balances of all account types come together",
    },
    "tda": {
        "*childOrderStrategies[].* undocumented": "recorded orders of 2022: a TRIGGER holds its OCO",
        "*orderActivityCollection[].activityId undocumented": "recorded orders of 2022 and 2023",
        "POST */orders 201 status: not in the document": "3.1; the document has a 200",
        "PUT */orders/* 201 status: not in the document": "3.1; the document has only failures",
        "DELETE */orders/* 200 status: not in the document": "3.1; the document has only failures",
        "* 404 status: not in the document": "3.1",
    },
}
