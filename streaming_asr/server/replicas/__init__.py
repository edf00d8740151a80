"""Several processes of the server behind one address: a supervisor, and replicas with a recognizer each.

The supervisor listens, accepts, and gives each connection to the replica with the most room: it passes the socket
itself (`SCM_RIGHTS`), so that no byte of a client goes through it. A replica returns a connection that it has no room
for, and the supervisor offers it to the others before one of them may refuse it.
"""
