"""For every REST adapter: requests that end, answers of bounded size, and the proof in a failure.

| file      | holds                                                                          |
|-----------|--------------------------------------------------------------------------------|
| http      | kept-alive requests, and what their failures prove                              |
| exchanges | one request, watched: its end, its size, whether its first byte has left        |
| bodies    | reading an answer within its bounds                                            |
| headers   | a broker's own word about its limits                                           |
| reading   | reads that are repeated, pages that end, looks at an account                   |
| replacing | replacing by a new order: one procedure, four hooks                            |
| veil      | secrets and account numbers out of every text                                  |
"""
