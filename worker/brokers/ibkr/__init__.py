"""Interactive Brokers over TWS or IB Gateway, with ib_insync or ib_async as the codec.

| file        | holds                                                                                        |
|-------------|----------------------------------------------------------------------------------------------|
| adapter     | the seam: threads in, coroutines out, timeouts                                               |
| access      | the settings: where TWS is, as whom corro speaks to it, and the guard of real money          |
| codes       | IB's error codes as a table                                                                  |
| terms       | an order in IB's words                                                                       |
| reports     | IB's messages in corro's words: order lines, executions, and the reports made of them        |
| orders      | placing and canceling: the order of operations                                               |
| replace     | changing a live order in place                                                               |
| listings    | reading orders and executions, and looking for one                                           |
| what_if     | what an order would do to the account                                                        |
| previews    | such questions that are under way, apart from orders                                         |
| account     | money, holdings, the clock                                                                   |
| prices      | quotes and bars                                                                              |
| pending     | an order, a change or a cancel between its first byte and IB's answer                         |
| verdicts    | the evidence about one of them, and the three tables that decide                             |
| evidence    | every order and execution that the wire has shown                                            |
| session     | one connection: open and lost, cut off (1100) and restored (1101, 1102), single messages out |
| feed        | raw messages in                                                                              |
| handshake   | from the TCP connect to a ready API                                                          |
| frames      | messages that are read before the SDK reads them                                             |
| spoiled     | rows of listings that the SDK cannot decode                                                  |
| unnumbered  | listings without a request id, whole or not at all                                           |
| substitutes | connections under client ids whose workers are gone                                          |
| contracts   | the contracts that symbols mean, looked up once a connection                                 |
| lookups     | which instruments there are, chains of options and futures                                   |
| details     | the details of a contract, read                                                              |
| names       | which security a symbol means, and the names of all others                                   |
| pacing      | how often bars may be asked for                                                              |
| days, times | the day as far as IB's listings reach back; times and zones as TWS writes them               |
| sdk, loop   | either SDK behind one shim; an event loop in a thread of its own                             |

Facts about IB are in docs/facts/ibkr.md. IB keeps no unique client order id: `orderRef` is our key, `permId` the
broker order id, and sending twice is two orders.
"""
