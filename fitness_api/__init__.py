"""The gateway, identity, and the composition root of every process.

Sits on top of the house: it may import `sync`, `realtime`, `notifications` and `analytics_etl`; none of them imports it.
`app.build` makes the ASGI application, `resources.open_resources` the clients it uses, `cli.main` the processes.
"""
