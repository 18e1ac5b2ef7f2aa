"""Alpaca through alpaca-trade-api: orders over REST, updates over the trade_updates websocket.

| file       | holds                                                                                |
|------------|--------------------------------------------------------------------------------------|
| adapter    | the seam                                                                             |
| access     | the settings: URLs, keys, budgets, and the guard of real money                       |
| codes      | refusals by HTTP status and numeric code, as a table                                 |
| terms      | an order in Alpaca's words                                                           |
| reports    | Alpaca's orders in corro's words                                                     |
| orders     | placing and canceling                                                                |
| replace    | the hooks of `rest.replacing`: PATCH makes a new order                               |
| listings   | every page of orders, executions and positions, and looking for one                  |
| account    | money and holdings                                                                   |
| prices     | quotes and bars                                                                      |
| executions | executions that two feeds tell, corrected and taken back by either                   |
| rest       | the two REST clients, trading and market data                                        |
| stream     | the websocket, with our own reconnect                                                |

Facts about Alpaca are in docs/facts/alpaca.md.
"""
