"""The store: campaigns in PostgreSQL, the only truth of the project.

Every function takes a SQLAlchemy Connection first, and the caller owns the transaction: what is done within
one `with engine.begin()` happens as a whole or not at all. Every function that changes a campaign locks its
row first, so the writers of one campaign go one after another and cannot deadlock; readers never wait. The
number of statements does not depend on the number of individuals.

Modules: engine (connect), upgrade, campaigns, generations, individuals, evaluations, states, workers,
offsets, events, outbox.
"""
