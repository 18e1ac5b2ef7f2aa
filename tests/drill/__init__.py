"""`make drill`: each fault of docs/page.md, injected into a fleet of its own, and what tells an operator of it."""
