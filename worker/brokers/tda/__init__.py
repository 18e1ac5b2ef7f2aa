"""TD Ameritrade v1 and Schwab's Trader API: one adapter over two dialects.

| file     | holds                                                                                       |
|----------|---------------------------------------------------------------------------------------------|
| adapter  | the seam                                                                                    |
| access   | the settings, budget and tokens, the guard of real money, the account's name in paths       |
| dialects | the differences of the two protocols, as data                                               |
| codes    | refusals by HTTP status and words, as tables                                                |
| terms    | an order in their words                                                                     |
| reports  | their orders in corro's words                                                               |
| orders   | placing and canceling: sent once, then verified                                             |
| replace  | the hooks of `rest.replacing`: PUT makes a new order                                        |
| listings | reading orders, and looking for the one that has the terms of ours                          |
| account  | money and holdings                                                                          |
| prices   | quotes and bars                                                                             |
| likeness | when two orders are the same, where no id of ours says so                                   |
| shapes   | orders within orders, legs, and the names of instruments                                    |
| memory   | which orders can have changed, without reading the whole history again                      |
| watch    | updates: orders that can still change are listed again and again                            |
| rest     | requests, signed with a fresh token                                                         |
| tokens   | OAuth tokens: refreshed ahead of time, once for all workers                                 |

Facts about them are in docs/facts/tda.md and docs/facts/schwab.md.
"""
