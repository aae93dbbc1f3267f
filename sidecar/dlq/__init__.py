"""Dead letters: what could not be delivered, kept for people to look at, mend and send again.

The library's :class:`~sidecar.dlq.queue.DeadLetterQueue` and the operators'
:class:`~sidecar.dlq.operator.Operator` share one store protocol, :class:`~sidecar.dlq.store.DeadLetterStore`.
"""
