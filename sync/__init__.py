"""Offline sync: documents of registers, merged by stamp, on sharded MongoDB.

Read `clock` (stamps), `document` (registers and the one merge rule), `schema` (collections), `changes` (wire types and
limits), `merge` (the only place that decides a conflict), `store` (the port), `exchange` (push, pull, one round trip).
The protocol is docs/protocols/sync.md.
"""
