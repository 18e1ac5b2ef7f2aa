"""People are told when something needs them: what stands, what is over, once for the whole fleet.

| file     | holds                                                                                     |
|----------|-------------------------------------------------------------------------------------------|
| concerns | what stands now, out of what was read: pure                                               |
| plan     | what is new, what is over, what is put into one message, and when: pure                   |
| notifier | a leader's two threads: one looks and writes messages, the other sends them               |
| sending  | apprise, the services and the heartbeat: the only place that speaks to the world          |
| post     | a process for each message, so that no answer outlives its time or takes our memory       |
| outage   | the one thing that no row can say: the database itself does not answer                    |
"""
