"""One process a machine that owns the model: a websocket on loopback, a queue, and the model in a worker of its own."""
